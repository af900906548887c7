/**
 * The domains of a node that several programs share: a node is one member of a domain, and may join it once. Each program has a `LockDomain` of its
 * own to leave; the last one's leaving is the node's.
 */
import type { DomainLock, LockCallbacks, LockDomain } from "./lock_domain.ts";

/** `err` is 0 or -errno. */
export type Joined = (err: number, domain: LockDomain | null) => void;

interface Entry {
  domain: LockDomain | null;
  /** Who waits for it to be joined. */
  readonly waiting: Joined[];
  readonly shares: Set<Share>;
  /** Who wants it again while it is being left. */
  again: Joined[] | null;
}

class Share implements LockDomain {
  readonly #domain: LockDomain;
  readonly #end: (share: Share, done: (status: number) => void) => void;
  onNodeDown: (node_num: number) => void = () => {};

  constructor(domain: LockDomain, end: (share: Share, done: (status: number) => void) => void) {
    this.#domain = domain;
    this.#end = end;
  }

  get name(): string {
    return this.#domain.name;
  }
  get clustered(): boolean {
    return this.#domain.clustered;
  }
  get node_num(): number {
    return this.#domain.node_num;
  }

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    return this.#domain.newLock(name, callbacks);
  }
  convert(...args: Parameters<LockDomain["convert"]>): void {
    this.#domain.convert(...args);
  }
  cancel(lock: DomainLock): void {
    this.#domain.cancel(lock);
  }
  unlock(...args: Parameters<LockDomain["unlock"]>): void {
    this.#domain.unlock(...args);
  }
  leave(done: (status: number) => void): void {
    this.#end(this, done);
  }
}

export class SharedDomains {
  readonly #join: (name: string, done: Joined) => void;
  readonly #entries = new Map<string, Entry>();

  constructor(join: (name: string, done: Joined) => void) {
    this.#join = join;
  }

  join(name: string, done: Joined): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) this.#start(name, [done]);
    else if (entry.again !== null) entry.again.push(done);
    else if (entry.domain === null) entry.waiting.push(done);
    else this.#share(name, entry, entry.domain, done);
  }

  #start(name: string, waiting: Joined[]): void {
    const entry: Entry = { domain: null, waiting, shares: new Set(), again: null };
    this.#entries.set(name, entry);
    this.#join(name, (err, domain) => {
      entry.domain = domain;
      if (domain === null) this.#entries.delete(name);
      else
        domain.onNodeDown = (node) => {
          for (const share of entry.shares) share.onNodeDown(node);
        };
      for (const done of entry.waiting.splice(0))
        if (domain === null) done(err, null);
        else this.#share(name, entry, domain, done);
    });
  }

  #share(name: string, entry: Entry, domain: LockDomain, done: Joined): void {
    const share = new Share(domain, (gone, left) => {
      entry.shares.delete(gone);
      if (entry.shares.size > 0 || entry.again !== null) return left(0);
      const again: Joined[] = [];
      entry.again = again;
      domain.leave((status) => {
        this.#entries.delete(name);
        left(status);
        if (again.length > 0) this.#start(name, again);
      });
    });
    entry.shares.add(share);
    done(0, share);
  }
}
