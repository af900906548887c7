/**
 * Programs that lock, convert, cancel and unlock at random on every node of a simulated cluster, and a referee who knows all of them:
 * never two holders that exclude each other, one master for each resource, an LVB read is the last one written, everything is granted in the end.
 */

import { OWNER_UNKNOWN, RES_BUSY, RES_DROPPING_REF } from "../../src/dlm/lockres.ts";
import { DlmNode } from "../../src/dlm/node.ts";
import { type DomainLock, EX, type LockLevel, NL, PR } from "../../src/stackglue/lock_domain.ts";
import { O2cbDomain } from "../../src/stackglue/o2cb.ts";
import { SimCluster, type SimNode, type SimOptions } from "./sim_cluster.ts";

export const DOMAIN = "0AD1B7A93F2A4B8196090CA8716C204B";

interface Shared {
  readonly holders: Map<Client, LockLevel>;
  /** What an LVB may hold: the last one written; zero, too, once a node died that might have changed it. */
  lvb: number;
  may_be_zero: boolean;
  /** Nodes that died with it at EX, and those who must hear of that before they are granted it: how many deaths they had heard of by then. */
  readonly written: { num: number; by: Map<Member, number> }[];
}

export class Referee {
  readonly names = new Map<string, Shared>();
  readonly faults: string[] = [];
  grants = 0;
  refusals = 0;
  cancels = 0;
  lvbs_lost = 0;

  of(name: string): Shared {
    let s = this.names.get(name);
    if (s === undefined) this.names.set(name, (s = { holders: new Map(), lvb: 0, may_be_zero: true, written: [] }));
    return s;
  }

  fault(text: string): void {
    this.faults.push(text);
  }

  granted(client: Client, level: LockLevel): void {
    const s = this.of(client.name);
    for (const [other, held] of s.holders)
      if (other !== client && (held === EX || level === EX) && held !== NL)
        this.fault(`${client} gets ${level} while ${other} holds ${held}`);
    for (const { num, by } of s.written) {
      const before = by.get(client.member);
      if (before !== undefined && !client.member.evicted.slice(before).includes(num))
        this.fault(`${client} gets ${level} and has not heard that node ${num}, which had EX, is dead`);
    }
    s.holders.set(client, level);
    this.grants++;
  }

  died(member: Member): void {
    const joined = member.world.alive.filter((m) => m.joined_err === 0);
    for (const s of this.names.values())
      for (const client of [...s.holders.keys()])
        if (client.member === member) {
          if (s.holders.get(client) === EX)
            s.written.push({ num: member.num, by: new Map(joined.map((m) => [m, m.evicted.length])) });
          s.holders.delete(client);
        }
    this.mayLoseLvbs();
  }

  mayLoseLvbs(): void {
    for (const s of this.names.values()) s.may_be_zero = true;
  }
}

let lvb_counter = 0;

/** One lock of one program. Names with an L use the LVB, always. */
export class Client {
  readonly member: Member;
  readonly name: string;
  lock: DomainLock | null = null;
  level: LockLevel = NL;
  /** The level asked for, while a request is in flight. */
  asked: LockLevel | null = null;
  cancelled = false;
  /** Somebody wants it at this level. */
  blocking: LockLevel = NL;
  unlocking = false;

  constructor(member: Member, name: string) {
    this.member = member;
    this.name = name;
  }

  toString(): string {
    return `node ${this.member.num} ${this.name}`;
  }

  get #lvb(): boolean {
    return this.name.includes("L");
  }

  get busy(): boolean {
    return this.asked !== null || this.unlocking;
  }

  #referee(): Referee {
    return this.member.world.referee;
  }

  request(level: LockLevel, trylock: boolean): void {
    this.lock ??= this.member.domain!.newLock(this.name, {
      ast: (status) => this.#ast(status),
      bast: (blocking) => this.#bast(blocking),
    });
    const down = level < this.level;
    this.asked = level;
    this.cancelled = false;
    const shared = this.#referee().of(this.name);
    if (down) {
      if (this.level === EX && this.#lvb) this.#write(shared);
      this.blocking = NL;
      shared.holders.set(this, level);
    }
    this.member.domain!.convert(this.lock, level, { trylock, lvb: this.#lvb });
  }

  #write(shared: Shared): void {
    shared.lvb = ++lvb_counter;
    // Until its death is noticed everywhere, a dead node may still be granted EX, and then the LVB is void.
    shared.may_be_zero = this.member.world.unsettled;
    new DataView(this.lock!.lvb.buffer, this.lock!.lvb.byteOffset).setUint32(0, lvb_counter);
  }

  #read(shared: Shared): void {
    const found = new DataView(this.lock!.lvb.buffer, this.lock!.lvb.byteOffset).getUint32(0);
    if (found === shared.lvb) return;
    if (found !== 0 || !shared.may_be_zero)
      this.#referee().fault(`${this} reads ${found} from the LVB, ${shared.lvb} was written last`);
    else this.#referee().lvbs_lost++;
    // Lost for all, from now on.
    shared.lvb = 0;
  }

  #ast(status: number): void {
    const asked = this.asked;
    if (asked === null) {
      this.#referee().fault(`${this}: an AST that nobody waits for`);
      return;
    }
    this.asked = null;
    if (status !== 0) {
      if (status === -11) this.#referee().refusals++;
      else if (status === -125 && this.cancelled) this.#referee().cancels++;
      else this.#referee().fault(`${this}: AST with status ${status}`);
    } else {
      const up = asked > this.level;
      this.level = asked;
      if (up) {
        this.#referee().granted(this, asked);
        if (this.#lvb) this.#read(this.#referee().of(this.name));
      }
    }
    if (this.blocking !== NL) this.#giveWaySoon();
  }

  #bast(blocking: LockLevel): void {
    if (blocking > this.blocking) this.blocking = blocking;
    if (!this.busy) this.#giveWaySoon();
    // A conversion upwards that waits keeps its old level, and may stand in the way of those before it: it must be called off.
    else if (this.asked !== null && this.asked > this.level && this.level !== NL) {
      this.cancelled = true;
      this.member.domain!.cancel(this.lock!);
    }
  }

  #giveWaySoon(): void {
    this.member.later(this.member.world.cluster.below(20), () => {
      if (this.busy || this.blocking === NL) return;
      const to: LockLevel = this.blocking === EX ? NL : PR;
      if (this.level <= to) {
        this.blocking = NL;
        return;
      }
      this.request(to, false);
    });
  }

  unlock(): void {
    if (this.lock === null || this.unlocking) return;
    const shared = this.#referee().of(this.name);
    const lvb = this.level === EX && this.#lvb;
    if (lvb) this.#write(shared);
    shared.holders.delete(this);
    this.unlocking = true;
    this.level = NL;
    const lock = this.lock;
    this.member.domain!.unlock(
      lock,
      () => {
        this.unlocking = false;
        this.lock = null;
        this.blocking = NL;
      },
      { lvb },
    );
  }

  /** One random thing. */
  act(): void {
    const { below } = this.member.world.cluster;
    const roll = (n: number): number => below.call(this.member.world.cluster, n);
    if (this.asked !== null && this.asked > this.level) {
      if (roll(4) === 0 && this.lock !== null) {
        this.cancelled = true;
        this.member.domain!.cancel(this.lock);
      }
      return;
    }
    if (this.busy) return;
    switch (roll(6)) {
      case 0:
        if (this.blocking === NL) this.unlock();
        return;
      case 1:
        if (this.level === EX) this.request(roll(2) === 0 ? PR : NL, false);
        else if (this.level === PR) this.request(NL, false);
        return;
      default: {
        const level = roll(2) === 0 ? PR : EX;
        if (level > this.level && this.blocking === NL) this.request(level, roll(4) === 0);
      }
    }
  }
}

/** A node and what runs on it. */
export class Member {
  readonly world: World;
  readonly num: number;
  readonly sim: SimNode;
  readonly node: DlmNode;
  domain: O2cbDomain | null = null;
  joined_err: number | null = null;
  clients: Client[] = [];
  left = false;
  evicted: number[] = [];

  constructor(world: World, num: number) {
    this.world = world;
    this.num = num;
    this.sim = world.cluster.start(num);
    this.node = new DlmNode({
      net: this.sim,
      hb: this.sim,
      clock: this.#clock(),
      random: world.cluster.random,
      nodes: () => Array.from({ length: 12 }, (_, i) => ({ num: i, ipv4_port: 7777, ipv4_address: 0x7f000001 + i })),
      regions: () => [],
      fatal: (err) => world.referee.fault(`node ${num}: ${err.message}`),
    });
  }

  /** Timers of a dead node do not go off. */
  #clock() {
    const { clock } = this.world.cluster;
    const { sim } = this;
    return {
      monotonic_ms: () => clock.monotonic_ms(),
      realtime: () => clock.realtime(),
      after: (ms: number, cb: () => void) => clock.after(ms, () => sim.alive && cb()),
    };
  }

  later(ms: number, cb: () => void): void {
    this.world.cluster.clock.after(ms, () => {
      if (this.sim.alive && !this.left) cb();
    });
  }

  join(): void {
    O2cbDomain.join(this.node, DOMAIN, (err, domain) => {
      this.joined_err = err;
      this.domain = domain;
      if (domain !== null) domain.onNodeDown = (n) => this.evicted.push(n);
    });
  }

  leaving = false;

  leave(): void {
    this.leaving = true;
    // A resource on which nobody holds more than NL takes no LVB along when it migrates.
    this.world.referee.mayLoseLvbs();
    this.domain!.leave(() => {
      this.left = true;
      this.leaving = false;
      this.world.cluster.stop(this.sim);
    });
  }

  /** Drops the locks as far as that can be done; leaves when none is left. True: it is on its way. */
  tryLeave(): boolean {
    if (this.leaving || this.left) return true;
    this.idle = true;
    for (const c of this.clients) if (!c.busy) c.unlock();
    if (this.clients.some((c) => c.busy || c.lock !== null)) return false;
    this.leave();
    return true;
  }

  /** Asks for nothing more. */
  idle = false;

  /** Acts at random until told to stop. */
  run(names: readonly string[], every_ms: number): void {
    this.clients = names.map((name) => new Client(this, name));
    const tick = (): void => {
      if (this.world.stopped || this.idle) return;
      this.clients[this.world.cluster.below(this.clients.length)]!.act();
      this.later(this.world.cluster.below(every_ms * 2), tick);
    };
    tick();
  }
}

export class World {
  readonly cluster: SimCluster;
  readonly referee = new Referee();
  readonly members = new Map<number, Member>();
  stopped = false;

  constructor(options: SimOptions) {
    this.cluster = new SimCluster(options);
  }

  add(num: number): Member {
    const member = new Member(this, num);
    this.members.set(num, member);
    return member;
  }

  get alive(): Member[] {
    return [...this.members.values()].filter((m) => m.sim.alive && !m.left);
  }

  /** Runs until `done`, and looks at the masters on the way. */
  runUntil(what: string, done: () => boolean, limit_ms = 600_000): void {
    let n = 0;
    const ok = this.cluster.clock.runUntil(() => {
      if (++n % 64 === 0) this.checkMasters();
      return this.referee.faults.length > 0 || done();
    }, limit_ms);
    if (!ok) this.referee.fault(`not within ${limit_ms} ms: ${what}`);
  }

  pass(ms: number): void {
    const end = this.cluster.clock.monotonic_ms() + ms;
    this.cluster.clock.after(ms, () => {});
    this.runUntil("time passes", () => this.cluster.clock.monotonic_ms() >= end);
  }

  joinAll(): void {
    for (const m of this.alive) if (m.joined_err === null) m.join();
    this.runUntil("all join", () => this.alive.every((m) => m.joined_err !== null));
    for (const m of this.alive) if (m.joined_err !== 0) this.referee.fault(`node ${m.num} joins: ${m.joined_err}`);
  }

  /** Of nodes that are not in the middle of something, one is the master of a name. */
  checkMasters(): void {
    const masters = new Map<string, number>();
    for (const m of this.alive) {
      if (m.domain === null) continue;
      for (const res of m.domain.dlm.lockres) {
        if (res.owner !== m.num || res.state & (RES_BUSY | RES_DROPPING_REF)) continue;
        const other = masters.get(res.name);
        if (other !== undefined) this.referee.fault(`${res.name} is mastered by nodes ${other} and ${m.num}`);
        masters.set(res.name, m.num);
      }
    }
  }

  /** Somebody has not noticed a death yet, or it is not recovered. */
  get unsettled(): boolean {
    return (
      !this.cluster.settled ||
      this.alive.some((m) => m.leaving || (m.domain !== null && !m.domain.dlm.recovery_map.empty))
    );
  }

  kill(member: Member): void {
    this.cluster.kill(member.sim);
    this.referee.died(member);
  }

  /** `nodes` nodes work on `names` for `ms`; up to `kills` of them die on the way. Then all unlock and leave. */
  play(nodes: number, names: readonly string[], ms: number, kills = 0): void {
    const { cluster } = this;
    const now = (): number => cluster.clock.monotonic_ms();
    for (let n = 1; n <= nodes; n++) this.add(n);
    this.joinAll();
    for (const m of this.alive) m.run(names, 5 + cluster.below(50));
    const end = now() + ms;
    let next = kills > 0 ? now() + cluster.below(5000) : Number.POSITIVE_INFINITY;
    let left = Math.min(kills, nodes - 1);
    this.runUntil("time passes", () => {
      if (now() >= next && left-- > 0) {
        this.kill(this.alive[cluster.below(this.alive.length)]!);
        next = now() + cluster.below(3000);
      }
      return now() >= end;
    });
    this.quiesce();
    if (this.referee.faults.length === 0) this.leaveAll(cluster.below(2) === 0);
  }

  /** One that died or left comes back; its number must be forgotten everywhere first. */
  restart(num: number): Member {
    this.members.get(num)!.node.close();
    const member = this.add(num);
    member.join();
    return member;
  }

  /**
   * For `ms`, nodes die, leave and come back at random; `nodes` are there at the start, and one stays. With `kill_every_ms` 0 they
   * only leave.
   */
  churn(nodes: number, names: readonly string[], ms: number, kill_every_ms: number): void {
    const { cluster } = this;
    const now = (): number => cluster.clock.monotonic_ms();
    for (let n = 1; n <= nodes; n++) this.add(n);
    this.joinAll();
    const every = 5 + cluster.below(50);
    for (const m of this.alive) m.run(names, every);
    const end = now() + ms;
    let next = now() + cluster.below(3000);
    const leaving = new Set<Member>();
    this.runUntil("time passes", () => {
      for (const m of this.members.values())
        if (m.joined_err === 0 && m.clients.length === 0 && !m.left) m.run(names, every);
      for (const m of leaving) if (!m.sim.alive || m.tryLeave()) leaving.delete(m);
      if (now() < next) return now() >= end;
      next = now() + cluster.below(3000);
      const stay = this.alive.filter((m) => m.joined_err === 0 && !m.idle);
      const absent = [...this.members.values()].filter((m) => m.left || !m.sim.alive);
      const roll = cluster.below(3);
      if (roll === 0 && absent.length > 0 && cluster.settled) this.restart(absent[cluster.below(absent.length)]!.num);
      else if (roll === 1 && stay.length > 1) leaving.add(stay[cluster.below(stay.length)]!);
      else if (stay.length > 1 && kill_every_ms > 0 && cluster.below(kill_every_ms) < 3000) {
        const all = this.alive.filter((m) => stay.length > 2 || !stay.includes(m));
        if (all.length > 0) this.kill(all[cluster.below(all.length)]!);
      }
      return now() >= end;
    });
    this.quiesce();
    this.runUntil("those who leave or come are through", () => {
      for (const m of leaving) if (!m.sim.alive || m.tryLeave()) leaving.delete(m);
      return this.alive.every((m) => m.joined_err !== null && !m.leaving);
    });
    if (this.referee.faults.length === 0) this.leaveAll(cluster.below(2) === 0);
  }

  /** Nobody asks for more: all that was asked is granted. */
  quiesce(): void {
    this.stopped = true;
    this.runUntil("everything is granted", () => this.alive.every((m) => m.clients.every((c) => !c.busy)), 300_000);
  }

  /** Unlocks everything, and all leave: one after the other, or at the same time. */
  leaveAll(together: boolean): void {
    this.runUntil("everything is unlocked", () => {
      const clients = this.alive.flatMap((m) => m.clients);
      // Who is just giving way for another does so first.
      for (const c of clients) if (!c.busy) c.unlock();
      return clients.every((c) => !c.busy && c.lock === null);
    });
    const members = this.alive;
    // Nobody asks for anything: whoever was blocked by a request for a mastery has been told the outcome.
    this.runUntil("no mastery is waited for", () => members.every((m) => m.domain!.dlm.mles.size === 0), 30_000);
    if (together) for (const m of members) m.leave();
    for (const m of members) {
      if (!together) m.leave();
      this.runUntil(`node ${m.num} leaves`, () => m.left);
      if (m.domain!.dlm.lockres.size !== 0) this.referee.fault(`node ${m.num} leaves resources behind`);
    }
  }

  /** Masters that are known are the true ones. */
  get masters(): Map<string, number> {
    const masters = new Map<string, number>();
    for (const m of this.alive)
      for (const res of m.domain!.dlm.lockres) if (res.owner !== OWNER_UNKNOWN) masters.set(res.name, res.owner);
    return masters;
  }
}
