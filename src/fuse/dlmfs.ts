/**
 * The cluster's locks as files (dlmfs): a folder is a domain of the lock manager, a file in it is a lock, an open file holds it: for reading at
 * PR, for writing at EX, with O_NONBLOCK only if that needs no waiting (ETXTBSY). poll(2) says POLLIN while another node wants it (dlmfs_file_poll). What is read and written is the lock's value, 64 bytes.
 * Pure: it is asked by path (tree_server.ts), and joins domains through a function.
 */
import { S_IFDIR, S_IFREG } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { EX, type LockDomain, PR } from "../stackglue/lock_domain.ts";
import { type HeldLevel, LVB_LEN, UserLock } from "../stackglue/userdlm.ts";
import type { TreeAnswer, TreeAsk } from "./tree_server.ts";

/** GROUP_NAME_MAX and USER_DLM_LOCK_ID_MAX_LEN: names have fewer bytes. */
const DOMAIN_NAME_MAX = 64;
const LOCK_NAME_MAX = 32;
const O_ACCMODE = 3;
const O_APPEND = 0o2000;
const O_NONBLOCK = 0o4000;
const POLLIN = 0x1;
const POLLRDNORM = 0x40;

const DIR_MODE = S_IFDIR | 0o755;
const FILE_MODE = S_IFREG | 0o644;

export type JoinDomain = (name: string, done: (err: number, domain: LockDomain | null) => void) => void;

interface Space {
  readonly domain: LockDomain;
  readonly locks: Map<string, UserLock>;
  /** Levels at which open files hold a lock. */
  readonly held: Map<UserLock, HeldLevel[]>;
}

const levelOf = (flags: number): HeldLevel => ((flags & O_ACCMODE) === 0 ? PR : EX);

export class Dlmfs {
  readonly #join: JoinDomain;
  readonly #spaces = new Map<string, Space>();
  /** Domains that are being joined or left. */
  readonly #busy = new Set<string>();

  constructor(join: JoinDomain) {
    this.#join = join;
  }

  ask(a: TreeAsk, done: (answer: TreeAnswer) => void): void {
    if (mlogOn(ML.DLMFS)) mlog(ML.DLMFS, `${a.what} ${a.path.join("/")}`);
    const err = this.#ask(a, done);
    if (err !== undefined) done(typeof err === "number" ? { err } : err);
  }

  /** An answer, or undefined when `done` is called later. */
  #ask(a: TreeAsk, done: (answer: TreeAnswer) => void): TreeAnswer | number | undefined {
    const [domain, name] = a.path;
    const space = domain === undefined ? undefined : this.#spaces.get(domain);
    const later = (err: number): void => done({ err });
    if (a.what === "mkdir") return name === undefined ? this.#mkdir(domain ?? "", later) : -Errno.EPERM;
    if (a.what === "create" && name === undefined) return -Errno.EPERM;
    if (domain === undefined) return this.#folder(a, [...this.#spaces.keys()], DIR_MODE);
    if (space === undefined) return -Errno.ENOENT;
    if (name === undefined) {
      if (a.what === "rmdir") return this.#rmdir(domain, space, later);
      return this.#folder(a, [...space.locks.keys()], FILE_MODE);
    }
    if (a.what === "create") return this.#create(space, name);
    const lock = space.locks.get(name);
    return lock === undefined ? -Errno.ENOENT : this.#file(space, lock, a, later);
  }

  #folder(a: TreeAsk, names: string[], mode: number): TreeAnswer | number {
    if (a.what === "stat") return { err: 0, mode: DIR_MODE };
    if (a.what === "list") return { err: 0, names: names.map((name) => ({ name, mode })) };
    return a.what === "rmdir" ? -Errno.EBUSY : -Errno.EISDIR;
  }

  #mkdir(domain: string, later: (err: number) => void): number | undefined {
    if (domain.length >= DOMAIN_NAME_MAX) return -Errno.EINVAL;
    if (this.#spaces.has(domain)) return -Errno.EEXIST;
    if (this.#busy.has(domain)) return -Errno.EBUSY;
    this.#busy.add(domain);
    this.#join(domain, (err, joined) => {
      this.#busy.delete(domain);
      if (joined !== null) this.#spaces.set(domain, { domain: joined, locks: new Map(), held: new Map() });
      later(err);
    });
    return undefined;
  }

  #rmdir(name: string, space: Space, later: (err: number) => void): number | undefined {
    if (space.locks.size > 0) return -Errno.ENOTEMPTY;
    this.#spaces.delete(name);
    this.#busy.add(name);
    space.domain.leave(() => {
      this.#busy.delete(name);
      later(0);
    });
    return undefined;
  }

  #create(space: Space, name: string): number {
    if (name.length >= LOCK_NAME_MAX || name.startsWith("$")) return -Errno.EINVAL;
    if (space.locks.has(name)) return -Errno.EEXIST;
    space.locks.set(name, new UserLock(space.domain, name));
    return 0;
  }

  #file(space: Space, lock: UserLock, a: TreeAsk, later: (err: number) => void): TreeAnswer | number | undefined {
    const flags = a.flags ?? 0;
    switch (a.what) {
      case "stat":
        return { err: 0, mode: FILE_MODE, size: LVB_LEN };
      case "open": {
        const trylock = (flags & O_NONBLOCK) !== 0;
        lock.lock(levelOf(flags), trylock, (err) => {
          if (err >= 0) space.held.set(lock, [...(space.held.get(lock) ?? []), levelOf(flags)]);
          later(trylock && err === -Errno.EAGAIN ? -Errno.ETXTBSY : err);
        });
        return undefined;
      }
      case "close": {
        const held = space.held.get(lock) ?? [];
        const at = held.indexOf(levelOf(flags));
        if (at < 0) return -Errno.EBADF;
        held.splice(at, 1);
        lock.unlock(levelOf(flags));
        return 0;
      }
      case "read":
        return { err: 0, text: Buffer.from(lock.readLvb()).toString("latin1") };
      case "write": {
        // user_dlm_write_lvb: always from the first byte; what is behind stays. There is no end to append at (dlmfs_file_open takes O_APPEND away).
        const offset = (flags & O_APPEND) !== 0 ? 0 : (a.offset ?? 0);
        if (offset >= LVB_LEN) return -Errno.ENOSPC;
        const bytes = Buffer.from(a.text ?? "", "latin1").subarray(0, LVB_LEN - offset);
        const lvb = lock.readLvb();
        lvb.set(bytes);
        lock.writeLvb(lvb);
        return { err: 0, size: bytes.length };
      }
      case "poll":
        return { err: 0, size: lock.isWanted ? POLLIN | POLLRDNORM : 0 };
      case "await":
        lock.whenWanted(later);
        return undefined;
      case "unlink":
        lock.destroy((err) => {
          if (err >= 0) space.locks.delete(lock.name);
          later(err);
        });
        return undefined;
      default:
        return -Errno.ENOTDIR;
    }
  }

  /** Leaves all domains. Files that are still open hold nothing from then on. */
  close(done: () => void): void {
    const spaces = [...this.#spaces.values()];
    this.#spaces.clear();
    let left = spaces.length;
    if (left === 0) return done();
    for (const { domain, locks, held } of spaces) {
      for (const [lock, levels] of held) for (const level of levels) lock.unlock(level);
      let waits = locks.size;
      const leave = (): void => domain.leave(() => --left === 0 && done());
      if (waits === 0) leave();
      for (const lock of locks.values()) lock.destroy(() => --waits === 0 && leave());
    }
  }
}
