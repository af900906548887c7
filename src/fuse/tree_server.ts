/**
 * A small FUSE server for trees of short files, as the kernel's configfs and dlmfs are: folders, and files that are read as a whole. It
 * asks for everything else by path and keeps nothing but who is open and what the kernel knows, so what is asked may live on another
 * thread. Whose a file is, and who may use it, is kept here, too: the kernel checks it. No contents are cached by the kernel, and no names unless they change through
 * this mount only.
 */
import { isReg, S_IFDIR, S_IFMT } from "../format/disk/constants.ts";
import * as fuse from "../format/fuse/index.ts";
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type ArenaHandle, fuseRead, fuseWrite, registerArena } from "../native/index.ts";

/** "poll": what poll(2) says now, in `size`. "await": answered when that is no longer nothing, or never will be. */
type Poll = "poll" | "await";

export interface TreeAsk {
  readonly what: "stat" | "list" | "read" | "write" | "mkdir" | "rmdir" | "create" | "unlink" | "open" | "close" | Poll;
  /** One character a byte. */
  readonly path: readonly string[];
  /** Of a write: one character a byte. */
  readonly text?: string;
  readonly offset?: number;
  readonly pid?: number;
  /** Of open, of the close that belongs to it, and of write: O_*. */
  readonly flags?: number;
}

export interface TreeAnswer {
  /** 0 or -errno. */
  readonly err: number;
  /** Of stat: the type and the permissions. */
  readonly mode?: number;
  /** Of stat: the file's, a page when it is not said. Of write: what was taken, all when it is not said. Of poll: POLL*. */
  readonly size?: number;
  /** Of read: one character a byte. */
  readonly text?: string;
  /** One character a byte. */
  readonly names?: readonly { readonly name: string; readonly mode: number }[];
}

export interface TreeOptions {
  /** Names and attributes change through this mount only: the kernel may keep them. */
  readonly names_stay?: boolean;
  /** What is made is its maker's, with the permissions that he gave it. Otherwise root's, with those that stat says. */
  readonly makers_own?: boolean;
}

export type AskTree = (ask: TreeAsk, done: (answer: TreeAnswer) => void) => void;

const PERMISSIONS = 0o7777;
const IN = fuse.FuseInHeader.size;
const OUT = fuse.FuseOutHeader.size;
const REQUEST_BYTES = 256 << 10;
const REPLY_BYTES = 64 << 10;
/** What configfs says that an attribute holds: a page. */
const FILE_SIZE = 4096;
/** Seconds; for good. */
const FOREVER = 2 ** 31;

interface Known {
  readonly ino: number;
  readonly path: readonly string[];
  nlookup: number;
}

/** Whose something is, and its permissions. */
interface Owner {
  readonly uid: number;
  readonly gid: number;
  readonly permissions: number;
}

interface Open {
  readonly path: readonly string[];
  readonly flags: number;
  /** What a read from the start has found; later reads go on in it. */
  text: Uint8Array | null;
  names: readonly { readonly name: string; readonly mode: number }[];
}

interface Request {
  readonly opcode: number;
  readonly unique: number;
  readonly path: readonly string[];
  readonly nodeid: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** What follows the header. */
  readonly body: Uint8Array;
}

export class TreeServer {
  readonly #fd: number;
  readonly #ask: AskTree;
  readonly #arena: Arena;
  readonly #handle: ArenaHandle;
  readonly #request: number;
  readonly #reply: number;
  readonly #in: fuse.FuseInHeader;
  /** How long the kernel keeps a name or attributes, in seconds. */
  readonly valid_s: number;
  readonly #by_ino = new Map<number, Known>();
  readonly #by_path = new Map<string, Known>();
  readonly #open = new Map<number, Open>();
  /** By path; what is not here is root's. */
  readonly #owners = new Map<string, Owner>();
  readonly #makers_own: boolean;
  /** Opens that wait for their answer, and what an interrupt of them does. */
  readonly #opening = new Map<number, () => void>();
  /** Polls that are to be woken, by path. */
  readonly #polls = new Map<string, Set<number>>();
  #next_ino = 2;
  #next_fh = 1;

  constructor(fd: number, arena: Arena, ask: AskTree, options: TreeOptions = {}) {
    this.valid_s = options.names_stay === true ? FOREVER : 0;
    this.#makers_own = options.makers_own === true;
    this.#fd = fd;
    this.#ask = ask;
    this.#arena = arena;
    this.#handle = registerArena(arena.u8);
    this.#request = arena.alloc(REQUEST_BYTES, 4096);
    this.#reply = arena.alloc(REPLY_BYTES, 4096);
    this.#in = fuse.FuseInHeader.at(arena.dv as DataView, this.#request);
    const root = { ino: fuse.FUSE_ROOT_ID, path: [], nlookup: 1 };
    this.#by_ino.set(root.ino, root);
    this.#by_path.set("", root);
  }

  /** Serves what is there; false when the mount is gone. */
  serve(): boolean {
    for (;;) {
      const got = fuseRead(this.#handle, this.#fd, this.#request, REQUEST_BYTES);
      if (got === -Errno.EAGAIN) return true;
      if (got === -Errno.ENOENT || got === -Errno.EINTR) continue;
      if (got < 0) return false;
      this.#one(got);
    }
  }

  #one(got: number): void {
    const head = this.#in;
    const at = this.#request;
    const known = this.#by_ino.get(head.nodeid);
    const r: Request = {
      opcode: head.opcode,
      unique: head.unique,
      path: known?.path ?? [],
      nodeid: head.nodeid,
      pid: head.pid,
      uid: head.uid,
      gid: head.gid,
      body: this.#arena.u8.slice(at + IN, at + got),
    };
    const handler = HANDLERS[r.opcode];
    if (r.opcode === fuse.FUSE_INTERRUPT) this.#opening.get(fuse.FuseInterruptIn.from(r.body).unique)?.();
    else if (NO_REPLY.has(r.opcode)) this.#forget(r);
    else if (known === undefined && r.nodeid !== 0) this.fail(r, -Errno.ESTALE);
    else if (handler === undefined) this.fail(r, -(FORBIDDEN.has(r.opcode) ? Errno.EPERM : Errno.ENOSYS));
    else handler(this, r);
  }

  #forget(r: Request): void {
    const drop = (nodeid: number, n: number): void => {
      const known = this.#by_ino.get(nodeid);
      if (known === undefined || nodeid === fuse.FUSE_ROOT_ID) return;
      known.nlookup -= n;
      if (known.nlookup > 0) return;
      this.#by_ino.delete(nodeid);
      this.#by_path.delete(known.path.join("/"));
    };
    if (r.opcode === fuse.FUSE_FORGET) drop(r.nodeid, fuse.FuseForgetIn.from(r.body).nlookup);
    if (r.opcode !== fuse.FUSE_BATCH_FORGET) return;
    const { count } = fuse.FuseBatchForgetIn.from(r.body);
    for (let i = 0; i < count; i++) {
      const one = fuse.FuseForgetOne.from(r.body, fuse.FuseBatchForgetIn.size + i * fuse.FuseForgetOne.size);
      drop(one.nodeid, one.nlookup);
    }
  }

  // ---- what the handlers use ------------------------------------------------------------------------------------------

  ask(r: Request, ask: TreeAsk, ok: (answer: TreeAnswer) => void): void {
    this.#ask(ask, (answer) => (answer.err < 0 ? this.fail(r, answer.err) : ok(answer)));
  }

  fail(r: Request, err: number): void {
    this.#send(r.unique, err, 0);
  }

  /** Answers with `len` bytes that `fill` has made, zeroed before. */
  answer(r: Request, len: number, fill: (at: number, dv: DataView) => void = () => {}): void {
    const at = this.#reply + OUT;
    this.#arena.u8.fill(0, at, at + len);
    fill(at, this.#arena.dv as DataView);
    this.#send(r.unique, 0, len);
  }

  answerBytes(r: Request, bytes: Uint8Array): void {
    this.answer(r, bytes.length, (at) => this.#arena.u8.set(bytes, at));
  }

  #send(unique: number, err: number, len: number): void {
    const out = fuse.FuseOutHeader.at(this.#arena.dv as DataView, this.#reply);
    out.len = OUT + len;
    out.error = err;
    out.unique = unique;
    const rc = fuseWrite(this.#handle, this.#fd, this.#reply, OUT + len);
    // ENOENT: the caller was interrupted and does not wait any more.
    if (rc < 0 && rc !== -Errno.ENOENT) mlog(ML.FUSE, `tree: a reply was not taken: errno ${-rc}`);
  }

  /** The inode number of a path, which the kernel comes to know by this answer. */
  remember(path: readonly string[]): number {
    const key = path.join("/");
    let known = this.#by_path.get(key);
    if (known === undefined) {
      known = { ino: this.#next_ino++, path, nlookup: 0 };
      this.#by_path.set(key, known);
      this.#by_ino.set(known.ino, known);
    }
    known.nlookup++;
    return known.ino;
  }

  /** `mode` is what stat says. */
  ownerOf(path: readonly string[], mode: number): Owner {
    return this.#owners.get(path.join("/")) ?? { uid: 0, gid: 0, permissions: mode & PERMISSIONS };
  }

  own(path: readonly string[], owner: Owner): void {
    this.#owners.set(path.join("/"), owner);
  }

  /** `r` has made it. */
  made(r: Request, path: readonly string[], mode: number): void {
    if (this.#makers_own) this.own(path, { uid: r.uid, gid: r.gid, permissions: mode & PERMISSIONS });
  }

  /** It is gone; and, of a folder, what was in it. */
  removed(path: readonly string[], what: "rmdir" | "unlink"): void {
    const key = path.join("/");
    this.#owners.delete(key);
    if (what === "unlink") return;
    for (const other of this.#owners.keys()) if (other.startsWith(`${key}/`)) this.#owners.delete(other);
  }

  /** Answers with a new handle. */
  open(r: Request, flags: number): void {
    const fh = this.#next_fh++;
    this.#open.set(fh, { path: r.path, flags, text: null, names: [] });
    this.answer(r, fuse.FuseOpenOut.size, (at, dv) => {
      const out = fuse.FuseOpenOut.at(dv, at);
      out.fh = fh;
      out.open_flags = fuse.FOPEN_DIRECT_IO;
    });
  }

  /** The tree may let an open wait. Who is interrupted meanwhile is answered at once, and what was opened for him is closed again. */
  openFile(r: Request, flags: number): void {
    let given_up = false;
    this.#opening.set(r.unique, () => {
      given_up = true;
      this.#opening.delete(r.unique);
      this.fail(r, -Errno.EINTR);
    });
    this.#ask({ what: "open", path: r.path, flags }, ({ err }) => {
      this.#opening.delete(r.unique);
      if (!given_up && err < 0) this.fail(r, err);
      else if (!given_up) this.open(r, flags);
      else if (err >= 0) this.#ask({ what: "close", path: r.path, flags }, () => {});
    });
  }

  /** poll(2): what there is now; and a wake-up later where the kernel asks for one. */
  poll(r: Request): void {
    const { fh, kh, flags } = fuse.FusePollIn.from(r.body);
    const open = this.#open.get(fh);
    if (open === undefined) return this.fail(r, -Errno.EBADF);
    this.ask(r, { what: "poll", path: open.path }, ({ size = 0 }) => {
      if (size === 0 && (flags & fuse.FUSE_POLL_SCHEDULE_NOTIFY) !== 0) this.#wakeLater(open.path, kh);
      this.answer(r, fuse.FusePollOut.size, (at, dv) => {
        fuse.FusePollOut.at(dv, at).revents = size;
      });
    });
  }

  #wakeLater(path: readonly string[], kh: number): void {
    const key = path.join("/");
    const waiting = this.#polls.get(key);
    if (waiting !== undefined) {
      waiting.add(kh);
      return;
    }
    this.#polls.set(key, new Set([kh]));
    this.#ask({ what: "await", path }, () => {
      const woken = this.#polls.get(key)!;
      this.#polls.delete(key);
      for (const one of woken) this.#notifyPoll(one);
    });
  }

  /** Only wakes who waits, and so never waits itself. */
  #notifyPoll(kh: number): void {
    const { dv } = this.#arena;
    fuse.FuseNotifyPollWakeupOut.at(dv as DataView, this.#reply + OUT).kh = kh;
    this.#send(0, fuse.FUSE_NOTIFY_POLL, fuse.FuseNotifyPollWakeupOut.size);
  }

  opened(fh: number): Open | undefined {
    return this.#open.get(fh);
  }

  release(fh: number): void {
    this.#open.delete(fh);
  }

  releaseFile(r: Request, fh: number): void {
    const open = this.#open.get(fh);
    this.#open.delete(fh);
    if (open === undefined) return this.answer(r, 0);
    this.#ask({ what: "close", path: open.path, flags: open.flags }, () => this.answer(r, 0));
  }
}

function fillAttr(attr: fuse.FuseAttr, ino: number, mode: number, owner: Owner, size = FILE_SIZE): void {
  const is_dir = (mode & S_IFDIR) !== 0;
  attr.ino = ino;
  attr.mode = (mode & S_IFMT) | owner.permissions;
  attr.uid = owner.uid;
  attr.gid = owner.gid;
  attr.nlink = is_dir ? 2 : 1;
  attr.size = is_dir ? 0 : size;
  attr.blksize = FILE_SIZE;
}

const nameIn = (body: Uint8Array, at = 0): string => {
  const end = body.indexOf(0, at);
  return Buffer.from(body.subarray(at, end < 0 ? body.length : end)).toString("latin1");
};

function answerEntry(s: TreeServer, r: Request, path: readonly string[], mode: number, size?: number): void {
  const ino = s.remember(path);
  s.answer(r, fuse.FuseEntryOut.size, (at, dv) => {
    const out = fuse.FuseEntryOut.at(dv, at);
    out.nodeid = ino;
    out.generation = 1;
    out.entry_valid = s.valid_s;
    out.attr_valid = s.valid_s;
    fillAttr(out.attr, ino, mode, s.ownerOf(path, mode), size);
  });
}

function stat(s: TreeServer, r: Request): void {
  s.ask(r, { what: "stat", path: r.path }, ({ mode = 0, size }) =>
    s.answer(r, fuse.FuseAttrOut.size, (at, dv) => {
      const out = fuse.FuseAttrOut.at(dv, at);
      out.attr_valid = s.valid_s;
      fillAttr(out.attr, r.nodeid, mode, s.ownerOf(r.path, mode), size);
    }),
  );
}

/** Truncating what is written as a whole, and times, change nothing. */
function setattr(s: TreeServer, r: Request): void {
  const given = fuse.FuseSetattrIn.from(r.body);
  const has = (flag: number): boolean => (given.valid & flag) !== 0;
  if (!has(fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID)) return stat(s, r);
  s.ask(r, { what: "stat", path: r.path }, ({ mode = 0 }) => {
    const was = s.ownerOf(r.path, mode);
    s.own(r.path, {
      uid: has(fuse.FATTR_UID) ? given.uid : was.uid,
      gid: has(fuse.FATTR_GID) ? given.gid : was.gid,
      permissions: has(fuse.FATTR_MODE) ? given.mode & PERMISSIONS : was.permissions,
    });
    stat(s, r);
  });
}

/** The kernel's VFS asks for MKNOD and OPEN where there is no CREATE. */
function mknod(s: TreeServer, r: Request): void {
  const path = [...r.path, nameIn(r.body, fuse.FuseMknodIn.size)];
  const { mode } = fuse.FuseMknodIn.from(r.body);
  if (!isReg(mode)) return s.fail(r, -Errno.EPERM);
  s.ask(r, { what: "create", path }, () => {
    s.made(r, path, mode);
    s.ask(r, { what: "stat", path }, ({ mode: type = 0, size }) => answerEntry(s, r, path, type, size));
  });
}

function remove(s: TreeServer, r: Request, what: "rmdir" | "unlink"): void {
  const path = [...r.path, nameIn(r.body)];
  s.ask(r, { what, path }, () => {
    s.removed(path, what);
    ok(s, r);
  });
}

function init(s: TreeServer, r: Request): void {
  const given = fuse.FuseInitIn.from(new Uint8Array([...r.body, ...new Uint8Array(fuse.FuseInitIn.size)]));
  const { minor } = given;
  s.answer(r, fuse.FuseInitOut.size, (at, dv) => {
    const out = fuse.FuseInitOut.at(dv, at);
    out.major = fuse.FUSE_KERNEL_VERSION;
    out.minor = Math.min(minor, 31);
    // Only RELEASE comes so, and all of it at once: what is over the limit the kernel holds back, and an unlink overtakes the close before it.
    out.max_background = 0xffff;
    out.congestion_threshold = 0xffff;
    out.max_write = 64 << 10;
    out.time_gran = 1;
  });
}

function read(s: TreeServer, r: Request): void {
  const { fh, offset, size } = fuse.FuseReadIn.from(r.body);
  const open = s.opened(fh);
  if (open === undefined) return s.fail(r, -Errno.EBADF);
  const give = (): void => s.answerBytes(r, open.text!.subarray(offset, offset + Math.min(size, REPLY_BYTES - OUT)));
  if (offset > 0 && open.text !== null) return give();
  s.ask(r, { what: "read", path: open.path }, ({ text = "" }) => {
    open.text = Buffer.from(text, "latin1");
    give();
  });
}

function write(s: TreeServer, r: Request): void {
  const { size, offset, flags } = fuse.FuseWriteIn.from(r.body);
  const text = Buffer.from(r.body.subarray(fuse.FuseWriteIn.size, fuse.FuseWriteIn.size + size)).toString("latin1");
  s.ask(r, { what: "write", path: r.path, text, offset, flags, pid: r.pid }, (answer) =>
    s.answer(r, fuse.FuseWriteOut.size, (at, dv) => {
      fuse.FuseWriteOut.at(dv, at).size = answer.size ?? size;
    }),
  );
}

function readdir(s: TreeServer, r: Request): void {
  const { fh, offset, size } = fuse.FuseReadIn.from(r.body);
  const open = s.opened(fh);
  if (open === undefined) return s.fail(r, -Errno.EBADF);
  const give = (): void => {
    const parts: Uint8Array[] = [];
    let room = Math.min(size, REPLY_BYTES - OUT);
    for (let i = offset; i < open.names.length; i++) {
      const { name, mode } = open.names[i]!;
      const bytes = Buffer.from(name, "latin1");
      const len = fuse.fuseDirentSize(bytes.length);
      if (len > room) break;
      const d = fuse.FuseDirent.alloc(len - fuse.FuseDirent.size);
      d.ino = 1;
      d.off_ = i + 1;
      d.namelen = bytes.length;
      d.type = mode >> 12;
      const all = new Uint8Array(d.dv.buffer);
      all.set(bytes, fuse.FuseDirent.size);
      parts.push(all);
      room -= len;
    }
    s.answerBytes(r, Buffer.concat(parts));
  };
  if (offset > 0) return give();
  s.ask(r, { what: "list", path: open.path }, ({ names = [] }) => {
    const dots = [".", ".."].map((name) => ({ name, mode: S_IFDIR }));
    open.names = [...dots, ...names];
    give();
  });
}

const ok = (s: TreeServer, r: Request): void => s.answer(r, 0);

const HANDLERS: Readonly<Record<number, (s: TreeServer, r: Request) => void>> = {
  [fuse.FUSE_INIT]: init,
  [fuse.FUSE_DESTROY]: ok,
  [fuse.FUSE_STATFS]: (s, r) => s.answer(r, fuse.FuseStatfsOut.size),
  [fuse.FUSE_GETATTR]: stat,
  [fuse.FUSE_SETATTR]: setattr,
  [fuse.FUSE_LOOKUP]: (s, r) => {
    const path = [...r.path, nameIn(r.body)];
    s.ask(r, { what: "stat", path }, ({ mode = 0, size }) => answerEntry(s, r, path, mode, size));
  },
  [fuse.FUSE_MKDIR]: (s, r) => {
    const path = [...r.path, nameIn(r.body, fuse.FuseMkdirIn.size)];
    s.ask(r, { what: "mkdir", path }, () => {
      s.made(r, path, fuse.FuseMkdirIn.from(r.body).mode);
      answerEntry(s, r, path, S_IFDIR | 0o755);
    });
  },
  [fuse.FUSE_RMDIR]: (s, r) => remove(s, r, "rmdir"),
  [fuse.FUSE_MKNOD]: mknod,
  [fuse.FUSE_UNLINK]: (s, r) => remove(s, r, "unlink"),
  [fuse.FUSE_OPEN]: (s, r) => s.openFile(r, fuse.FuseOpenIn.from(r.body).flags),
  [fuse.FUSE_OPENDIR]: (s, r) => s.open(r, 0),
  [fuse.FUSE_READ]: read,
  [fuse.FUSE_READDIR]: readdir,
  [fuse.FUSE_WRITE]: write,
  [fuse.FUSE_POLL]: (s, r) => s.poll(r),
  [fuse.FUSE_FSYNC]: ok,
  [fuse.FUSE_RELEASE]: (s, r) => s.releaseFile(r, fuse.FuseReleaseIn.from(r.body).fh),
  [fuse.FUSE_RELEASEDIR]: (s, r) => {
    s.release(fuse.FuseReleaseIn.from(r.body).fh);
    ok(s, r);
  },
};

const NO_REPLY: ReadonlySet<number> = new Set([fuse.FUSE_FORGET, fuse.FUSE_BATCH_FORGET, fuse.FUSE_INTERRUPT]);
/** What neither of them has an operation for. */
const FORBIDDEN: ReadonlySet<number> = new Set([
  ...[fuse.FUSE_RENAME, fuse.FUSE_RENAME2, fuse.FUSE_LINK, fuse.FUSE_SYMLINK],
]);
