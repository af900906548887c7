/**
 * The cluster's locks for programs, without a file system: what dlmfs offers as files. A lock space is a domain of the lock manager; every node that
 * joined it sees the same locks.
 */
import { byteName } from "../lib/byte_name.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { connectLines, hostNode, type LineSocket, nodeSocketPath } from "../native/node_socket.ts";
import { EX, type LockDomain, PR } from "../stackglue/lock_domain.ts";
import { type FromHost, RemoteDomain } from "../stackglue/remote.ts";
import { type HeldLevel, UserLock } from "../stackglue/userdlm.ts";
import { checkOptionNames, codedError, invalidArg } from "./errors.ts";

export type LockMode = "shared" | "exclusive";

export interface LockOptions {
  /** EAGAIN instead of waiting. */
  readonly trylock?: boolean | undefined;
}

/** A lock that is held. `using` gives it back. */
export class HeldLock {
  readonly name: string;
  readonly mode: LockMode;
  readonly #lock: UserLock;
  #held = true;

  constructor(name: string, lock: UserLock, mode: LockMode) {
    this.name = name;
    this.mode = mode;
    this.#lock = lock;
  }

  #check(): void {
    if (!this.#held) throw new FsError(Errno.EBADF, "lock_space", { name: this.name });
  }

  /** The 64 bytes that the last exclusive holder left; all zero if nobody did, or a node died that may have changed them. */
  value(): Uint8Array {
    this.#check();
    return this.#lock.readLvb();
  }

  /** Up to 64 bytes for the next holder. Needs the lock exclusively. */
  setValue(bytes: Uint8Array): void {
    this.#check();
    if (this.mode !== "exclusive") throw new FsError(Errno.EACCES, "lock_space.setValue", { name: this.name });
    if (!(bytes instanceof Uint8Array)) throw invalidArg("bytes", "a Uint8Array", bytes);
    if (bytes.length > 64)
      throw new FsError(Errno.EINVAL, "lock_space.setValue", { name: this.name, len: bytes.length });
    this.#lock.writeLvb(bytes);
  }

  /** True while another node waits for this lock. */
  get isWanted(): boolean {
    this.#check();
    return this.#lock.isWanted;
  }

  /** Settles when another node wants the lock, at once if it does already: a holder that can wait gives it up then. */
  wanted(): Promise<void> {
    this.#check();
    return new Promise((ok, fail) => {
      this.#lock.whenWanted((err) =>
        err === 0 ? ok() : fail(new FsError(-err, "lock_space.wanted", { name: this.name })),
      );
    });
  }

  unlock(): void {
    this.#check();
    this.#held = false;
    this.#lock.unlock(level(this.mode));
  }

  [Symbol.dispose](): void {
    if (this.#held) this.unlock();
  }
}

const LEVELS: Readonly<Record<LockMode, HeldLevel>> = { shared: PR, exclusive: EX };

/** A mode that there is none of must not be taken for the weaker one. */
function level(mode: LockMode): HeldLevel {
  if (Object.hasOwn(LEVELS, mode)) return LEVELS[mode];
  throw codedError(
    "ERR_INVALID_ARG_VALUE",
    `The argument 'mode' must be "shared" or "exclusive". Received ${JSON.stringify(mode)}`,
    TypeError,
  );
}

export interface JoinOptions {
  /** Which node of this machine; the one with the host's name when not given. */
  readonly node?: string | undefined;
}

export class LockSpace {
  readonly #domain: LockDomain;
  readonly #locks = new Map<string, UserLock>();
  #socket: LineSocket | null = null;
  #onLost: () => void = () => {};
  /** Settles when the node's process has gone: what is held is void from then on, and waiting fails with ENOTCONN. */
  readonly lost: Promise<void> = new Promise((ok) => {
    this.#onLost = ok;
  });

  /** Over a domain that was joined. */
  constructor(domain: LockDomain) {
    this.#domain = domain;
  }

  /**
   * Joins the domain `name` through the process of this machine's node, which must run (a mount, or `ocfs2 node start`) and heartbeat. Rejects with ENOTCONN
   * when it does not run, EINVAL when it does not heartbeat, EBUSY when the domain is a mounted volume's.
   */
  static async join(name: string, options: JoinOptions = {}): Promise<LockSpace> {
    checkOptionNames(options, ["node"]);
    if (typeof name !== "string" || !/^[^/\0]{1,63}$/.test(byteName(name)))
      throw new FsError(Errno.EINVAL, "lock_space.join", { name });
    const node = options.node ?? hostNode();
    return new Promise((ok, fail) => {
      let domain: RemoteDomain | null = null;
      let space = null as LockSpace | null;
      const refuse = (errno: number): void => fail(new FsError(errno, "lock_space.join", { name, node }));
      const socket = connectLines(nodeSocketPath(node), {
        connected: () => socket.send({ type: "join-domain", name: byteName(name) }),
        heard(m) {
          if (domain !== null) return domain.heard(m as FromHost);
          const { type, err, node_num } = m as { type: string; err?: number; node_num?: number };
          if (type === "joined" && err === 0) {
            domain = new RemoteDomain(name, node_num!, (message) => socket.send(message));
            space = new LockSpace(domain);
            space.#socket = socket;
            ok(space);
            return;
          }
          refuse(err !== undefined ? -err : Errno.EINVAL);
          socket.close();
        },
        ended() {
          // Settled already when it was joined.
          refuse(Errno.ENOTCONN);
          domain?.broken();
          if (space !== null) space.#lose();
        },
      });
    });
  }

  #lose(): void {
    for (const lock of this.#locks.values()) lock.lose();
    this.#onLost();
  }

  get name(): string {
    return this.#domain.name;
  }

  /** Waits for the lock; names have 1 to 31 bytes of UTF-8. */
  async lock(name: string, mode: LockMode, options: LockOptions = {}): Promise<HeldLock> {
    const wanted = level(mode);
    checkOptionNames(options, ["trylock"]);
    const bytes = typeof name === "string" ? byteName(name) : "";
    if (bytes.length < 1 || bytes.length > 31) throw new FsError(Errno.EINVAL, "lock_space.lock", { name });
    let lock = this.#locks.get(name);
    if (lock === undefined) this.#locks.set(name, (lock = new UserLock(this.#domain, bytes)));
    const taken = lock;
    return new Promise((ok, fail) => {
      taken.lock(wanted, options.trylock ?? false, (err) => {
        if (err === 0) ok(new HeldLock(name, taken, mode));
        else fail(new FsError(-err, "lock_space.lock", { name, mode }));
      });
    });
  }

  /** Gives a lock that nobody here holds back to the cluster (dlmfs: rm). EBUSY while somebody does. */
  forget(name: string): Promise<void> {
    const lock = this.#locks.get(name);
    if (lock === undefined) return Promise.resolve();
    return new Promise((ok, fail) => {
      lock.destroy((err) => {
        if (err < 0) fail(new FsError(-err, "lock_space.forget", { name }));
        else {
          this.#locks.delete(name);
          ok();
        }
      });
    });
  }

  /** Leaves the domain. No lock may be held. */
  async close(): Promise<void> {
    for (const name of [...this.#locks.keys()]) await this.forget(name);
    await new Promise<void>((ok) => this.#domain.leave(() => ok()));
    this.#socket?.close();
  }
}
