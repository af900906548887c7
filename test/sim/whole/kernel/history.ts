/**
 * What programs on all nodes saw of one thing (some bytes of a file, its size, its mode, what a name leads to), checked: is there a single order of all
 * operations, each between its call and its return, in which every read finds what was written last? Every write has a value of its own; then the
 * question is decided by intervals (Gibbons and Korach, "Testing shared memories", 1997, atomic registers with a read mapping):
 * of each value the time between the first return and the last call of all that wrote or read it must not overlap another value's, nor
 * contain all of one whose operations were all at the same time.
 */

export type Val = number | string;

const NEVER = Number.POSITIVE_INFINITY;

interface Op {
  readonly write: boolean;
  /** Each life of a node is one. */
  readonly node: string;
  /** Order of calls and returns. */
  readonly called: number;
  returned: number;
  /** As `returned`, of what a disk did not take, too: that is as if it had never returned. */
  came_back: number;
  /** Since when a disk has not taken it. */
  lost: number;
  /** An fsync has returned since: it must outlive the node. */
  synced: boolean;
}

const opOf = (write: boolean, node: string, called: number, returned: number): Op => ({
  write,
  node,
  called,
  returned,
  came_back: returned,
  lost: NEVER,
  synced: false,
});

interface Value {
  write: Op | null;
  readonly reads: Op[];
}

export class Register {
  readonly name: string;
  readonly #values = new Map<Val, Value>();

  constructor(name: string, initial: Val) {
    this.name = name;
    this.#of(initial).write = { ...opOf(true, "", -1, -1), synced: true };
  }

  #of(value: Val): Value {
    let v = this.#values.get(value);
    if (v === undefined) this.#values.set(value, (v = { write: null, reads: [] }));
    return v;
  }

  write(node: string, value: Val, called: number): Op {
    const op = opOf(true, node, called, NEVER);
    this.#of(value).write = op;
    return op;
  }

  wrote(op: Op, returned: number): void {
    op.came_back = returned;
    if (op.lost === NEVER) op.returned = returned;
  }

  /**
   * A program that reads through the page cache sees what another one of its node is writing before that is anywhere else, and FUSE lets nobody
   * prevent it: such a read says nothing of other nodes.
   */
  read(node: string, value: Val, called: number, returned: number): void {
    const v = this.#of(value);
    if (v.write !== null && v.write.node === node && v.write.returned === NEVER) return;
    v.reads.push(opOf(false, node, called, returned));
  }

  /** What of a node's has returned, and no fsync since. */
  *unsynced(node: string): Iterable<Op> {
    for (const { write } of this.#values.values())
      if (write !== null && write.node === node && write.came_back !== NEVER && !write.synced) yield write;
  }

  /** An fsync has returned that promises this; what a disk did not take before is there all the same, then. */
  synced(op: Op): void {
    op.synced = true;
    op.returned = op.came_back;
    op.lost = NEVER;
  }

  /** A disk did not take what a node has written: what nobody else has seen and no fsync has promised is there, or a part of it, or not. */
  failed(node: string, now: number): void {
    this.may_be_torn = true;
    for (const { write, reads } of this.#values.values()) {
      if (write === null || write.node !== node || write.synced || reads.some((r) => r.node !== node)) continue;
      // What was lost before is lost, whatever else of its page fails now.
      write.lost = Math.min(write.lost, now);
      write.returned = NEVER;
      reads.length = 0;
    }
  }

  /** A node is dead: what it wrote, and neither an fsync nor another node's look has made it write down, may be gone; or not. */
  died(node: string): void {
    for (const { write, reads } of this.#values.values()) {
      if (write === null || write.node !== node || write.synced) continue;
      if (write.returned === NEVER) this.may_be_torn = true;
      if (reads.some((r) => r.node !== node)) continue;
      this.may_be_torn = true;
      write.returned = NEVER;
      reads.length = 0;
    }
  }

  /** A part of what a dead node was writing may be there. */
  may_be_torn = false;

  /** What contradicts a single order; undefined when there is one. */
  check(): string | undefined {
    const zones: { value: Val; from: number; to: number; forward: boolean }[] = [];
    for (const [value, v] of this.#values) {
      if (v.write === null) return `${this.name}: ${value} was read, and nobody wrote it`;
      const early = v.reads.find((r) => r.returned < v.write!.called);
      if (early !== undefined) return `${this.name}: node ${early.node} has read ${value} before it was written`;
      const ops = [v.write, ...v.reads];
      const first_return = Math.min(...ops.map((o) => o.returned));
      const last_call = Math.max(...ops.map((o) => o.called));
      // Nobody has seen it, and it never returned.
      if (first_return === NEVER) continue;
      zones.push({
        value,
        from: Math.min(first_return, last_call),
        to: Math.max(first_return, last_call),
        forward: first_return < last_call,
      });
    }
    const forward = zones.filter((z) => z.forward).sort((a, b) => a.from - b.from);
    for (let i = 1; i < forward.length; i++)
      if (forward[i]!.from < forward[i - 1]!.to) return this.#say(forward[i - 1]!.value, forward[i]!.value);
    for (const back of zones)
      for (const z of forward)
        if (!back.forward && z.from < back.from && back.to < z.to) return this.#say(z.value, back.value);
    return undefined;
  }

  #say(a: Val, b: Val): string {
    const line = (value: Val): string => {
      const { write, reads } = this.#values.get(value)!;
      const ops = [write!, ...reads].map(
        (o) => `${o.write ? "written" : "read"} by node ${o.node} [${o.called}, ${o.returned}]`,
      );
      return `  ${value}: ${ops.join(", ")}`;
    };
    return `${this.name}: no single order of operations shows ${a} and ${b} so:\n${line(a)}\n${line(b)}`;
  }
}

export class ProgramHistory {
  readonly #registers = new Map<string, Register>();
  readonly #void = new Set<string>();
  #time = 0;
  reads = 0;
  writes = 0;

  /** What happens to this one says nothing of the node. */
  leaveOut(name: string): void {
    this.#void.add(name);
  }

  get left_out(): number {
    return this.#void.size;
  }

  now(): number {
    return ++this.#time;
  }

  /** When the last of all calls and returns was. */
  get time(): number {
    return this.#time;
  }

  /** The writes to a file that are to be there for ever once an fsync that begins now has returned. */
  unsynced(node: string, name: string): { readonly register: Register; readonly op: Op }[] {
    const of = [...this.#registers.values()].filter((r) => r.name.startsWith(`${name} `));
    return of.flatMap((register) => [...register.unsynced(node)].map((op) => ({ register, op })));
  }

  died(node: string): void {
    for (const r of this.#registers.values()) r.died(node);
  }

  register(name: string, initial: Val): Register {
    let r = this.#registers.get(name);
    if (r === undefined) this.#registers.set(name, (r = new Register(name, initial)));
    return r;
  }

  check(): string[] {
    return [...this.#registers.values()]
      .filter((r) => !this.#void.has(r.name))
      .map((r) => r.check())
      .filter((s) => s !== undefined);
  }
}
