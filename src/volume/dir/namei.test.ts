/** Names and inodes as POSIX has them: links, times, types, modes, and the errno of everything that must not happen. */
import { beforeEach, describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { I_ATTR, I_FLAGS, SYSTEM_INODE } from "../../format/disk/index.ts";
import { systemClock } from "../../lib/clock.ts";
import * as ns from "../../vfs/namespace.ts";
import { dinodeOf, inodeLockModify } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { setLinks } from "./attr.ts";
import { openDir } from "./dir.ts";
import { lockDir } from "./iget.ts";
import { nameOf, nameText } from "./name.ts";
import { readAll } from "./readdir.ts";
import { recoverOrphans, wipeInode } from "./wipe.ts";

const cred: ns.Cred = { uid: 1000, gid: 100, umask: 0o22 };
const N = nameOf;
const base = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "1K", "-C", "4K"], 32) : new Uint8Array(0);

let image: Uint8Array;
let v: TestVolume;
let osb: Osb;
let root: number;
let now = 1_700_000_000;

function open(): void {
  v = openImage(image);
  osb = v.osb;
  root = osb.geo.root_blkno;
  (osb as { clock: unknown }).clock = {
    ...systemClock,
    after: () => () => {},
    realtime: () => ({ sec: now++, nsec: 7 }),
  };
}

beforeEach(() => {
  image = base.slice();
  if (base.length > 0) open();
});

const run = <T>(fn: (op: Op) => T): T => osb.runSync(fn);
const settle = (): void => {
  while (osb.pump());
};
const create = (name: string, dir = root, mode = 0o644): ns.Attr =>
  run((op) => ns.create(op, dir, N(name), mode, cred));
const mkdir = (name: string, dir = root, mode = 0o755): ns.Attr => run((op) => ns.mkdir(op, dir, N(name), mode, cred));
const stat = (ino: number): ns.Attr => run((op) => ns.getattr(op, ino));
const look = (name: string, dir = root): ns.Attr | undefined => run((op) => ns.lookup(op, dir, N(name)));
const unlink = (name: string, dir = root): ns.Attr => run((op) => ns.unlink(op, dir, N(name)));
const rmdir = (name: string, dir = root): ns.Attr => run((op) => ns.rmdir(op, dir, N(name)));
const link = (ino: number, name: string, dir = root): ns.Attr => run((op) => ns.link(op, ino, dir, N(name)));
const rename = (from: string, to: string, flags = 0, d1 = root, d2 = root): void => {
  run((op) => ns.rename(op, d1, N(from), d2, N(to), flags));
};
const ls = (dir: number): string[] =>
  run((op) => {
    const d = lockDir(op, osb.inodes.get(dir));
    return readAll(openDir(op, d.inode, d.di_bh)).map((r) => nameText(r.name));
  });
const orphans = (slot = 0): string[] => ls(osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, slot).ino).slice(2);
const setAttr = (ino: number, i_attr: number): void =>
  run((op) => {
    dinodeOf(op, inodeLockModify(op, osb.inodes.get(ino))).i_attr = i_attr;
  });
const setMode = (ino: number, mode: number, gid: number): void =>
  run((op) => {
    const di = dinodeOf(op, inodeLockModify(op, osb.inodes.get(ino)));
    di.i_mode = mode;
    di.i_gid = gid;
  });
const errno = (fn: () => unknown): string => {
  try {
    fn();
  } catch (err) {
    return (err as { code?: string }).code ?? String(err);
  }
  return "ok";
};
/** Closes, lets fsck judge, opens again. */
const reopen = (): void => {
  settle();
  v.close();
  const judged = fsck(image);
  expect(judged.clean, judged.output).toBe(true);
  open();
};

describe.skipIf(base.length === 0)("names", () => {
  test("a new file has its owner, mode without the umask, one link and one time", () => {
    const before = now;
    const a = create("f", root, 0o666);
    expect(a).toMatchObject({ mode: 0o100644, nlink: 1, uid: 1000, gid: 100, size: 0, blocks: 0, flags: 0, rdev: 0 });
    expect([a.atime, a.mtime, a.ctime]).toEqual([a.atime, a.atime, a.atime]);
    expect(a.atime).toBeGreaterThanOrEqual(before);
    expect(a.atime_nsec).toBe(7);
    expect(stat(root)).toMatchObject({ mtime: a.mtime, ctime: a.mtime });
    expect(look("f")).toEqual(a);
    reopen();
    expect(look("f")).toEqual(a);
  });

  test("generations differ, and go on differing after a block is used again", () => {
    const seen = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const a = create("f");
      expect(a.generation).not.toBe(0);
      seen.add(a.generation);
      unlink("f");
      settle();
    }
    expect(seen.size).toBe(20);
  });

  test("every type can be made, and keeps its device number", () => {
    const types: [string, number][] = [
      ["fifo", 0o010600],
      ["chr", 0o020666],
      ["blk", 0o060660],
      ["sock", 0o140755],
      ["reg", 0o100600],
    ];
    for (const [name, mode] of types) run((op) => ns.mknod(op, root, N(name), mode, 0x12345, { ...cred, umask: 0 }));
    for (const [name, mode] of types) {
      const dev = name === "chr" || name === "blk";
      expect(look(name)).toMatchObject({ mode, rdev: dev ? 0x12345 : 0 });
    }
    reopen();
    expect(look("chr")!.rdev).toBe(0x12345);
  });

  test("directories count each other's links", () => {
    expect(stat(root).nlink).toBe(3);
    const d = mkdir("d");
    expect(d).toMatchObject({ mode: 0o040755, nlink: 2 });
    expect(stat(root).nlink).toBe(4);
    const e = mkdir("e", d.ino);
    expect(stat(d.ino).nlink).toBe(3);
    expect(look("..", e.ino)!.ino).toBe(d.ino);
    expect(look(".", e.ino)!.ino).toBe(e.ino);
    expect(errno(() => rmdir("d"))).toBe("ENOTEMPTY");
    rmdir("e", d.ino);
    rmdir("d");
    expect(stat(root).nlink).toBe(3);
    settle();
    expect(errno(() => stat(d.ino))).toBe("ESTALE");
    reopen();
  });

  test("a setgid directory gives its group, and to directories its bit", () => {
    const d = mkdir("d");
    setMode(d.ino, 0o042775, 555);
    expect(create("f", d.ino)).toMatchObject({ gid: 555, mode: 0o100644 });
    expect(mkdir("e", d.ino)).toMatchObject({ gid: 555, mode: 0o042755 });
    expect(run((op) => ns.symlink(op, d.ino, N("s"), N("x"), cred))).toMatchObject({ gid: 555, mode: 0o120777 });
  });

  test("symlinks of every length come back, short ones without a block", () => {
    const { blocksize } = osb.geo;
    for (const len of [1, 5, 60, blocksize - 0xc0 - 1, blocksize - 0xc0, blocksize - 1, blocksize, 2047, 2048, 4095]) {
      const target = `${"t".repeat(len - 1)}!`;
      const a = run((op) => ns.symlink(op, root, N(`s${len}`), N(target), cred));
      expect(a).toMatchObject({ size: len, blocks: len < blocksize - 0xc0 ? 0 : 8 });
      expect(nameText(run((op) => ns.readlink(op, a.ino)))).toBe(target);
    }
    expect(errno(() => run((op) => ns.symlink(op, root, N("x"), N("t".repeat(4096)), cred)))).toBe("ENAMETOOLONG");
    expect(errno(() => run((op) => ns.symlink(op, root, N("x"), N(""), cred)))).toBe("EINVAL");
    expect(errno(() => run((op) => ns.readlink(op, root)))).toBe("EINVAL");
    reopen();
    const longest = look("s4095")!.ino;
    expect(nameText(run((op) => ns.readlink(op, longest)))).toBe(`${"t".repeat(4094)}!`);
    unlink("s4095");
    unlink("s5");
    reopen();
  });

  test("names beyond ASCII that a node with unsigned char has hashed are found and removed", () => {
    const d = mkdir("d");
    for (let i = 0; i < 60; i++) create(`grow-the-directory-${i}`, d.ino);
    const { k } = osb;
    const unsigned = { ...k, dxHash: (...a: Parameters<typeof k.dxHash>) => k.dxHash(a[0], a[1], a[2], a[3], 0, a[5]) };
    (osb as { k: typeof k }).k = unsigned;
    const theirs = create("ñandú", d.ino);
    (osb as { k: typeof k }).k = k;
    const ours = create("übel", d.ino);
    expect(look("ñandú", d.ino)!.ino).toBe(theirs.ino);
    expect(look("übel", d.ino)!.ino).toBe(ours.ino);
    expect(errno(() => create("ñandú", d.ino))).toBe("EEXIST");
    unlink("ñandú", d.ino);
    expect(look("ñandú", d.ino)).toBe(undefined);
    reopen();
  });

  test("names that cannot be are refused", () => {
    expect(errno(() => create("x".repeat(256)))).toBe("ENAMETOOLONG");
    expect(errno(() => look("x".repeat(256)))).toBe("ENAMETOOLONG");
    expect(errno(() => create("a/b"))).toBe("EINVAL");
    expect(errno(() => create("a\0b"))).toBe("EINVAL");
    expect(errno(() => create(""))).toBe("EINVAL");
    expect(errno(() => create("."))).toBe("EEXIST");
    expect(errno(() => mkdir(".."))).toBe("EEXIST");
    create("x".repeat(255));
    expect(errno(() => create("x".repeat(255)))).toBe("EEXIST");
  });

  test("a file is no directory", () => {
    const f = create("f");
    expect(errno(() => look("x", f.ino))).toBe("ENOTDIR");
    expect(errno(() => create("x", f.ino))).toBe("ENOTDIR");
    expect(errno(() => rmdir("f"))).toBe("ENOTDIR");
    mkdir("d");
    expect(errno(() => unlink("d"))).toBe("EISDIR");
    expect(errno(() => unlink("none"))).toBe("ENOENT");
    expect(errno(() => rmdir("none"))).toBe("ENOENT");
    expect(errno(() => rmdir("."))).toBe("EINVAL");
    expect(errno(() => rmdir(".."))).toBe("ENOTEMPTY");
    expect(errno(() => unlink("."))).toBe("EISDIR");
  });

  test("hard links share the inode, and ctime tells of each", () => {
    const f = create("f");
    const l = link(f.ino, "g");
    expect(l).toMatchObject({ ino: f.ino, nlink: 2, mtime: f.mtime });
    expect(l.ctime).toBeGreaterThan(f.ctime);
    expect(errno(() => link(f.ino, "g"))).toBe("EEXIST");
    const d = mkdir("d");
    expect(errno(() => link(d.ino, "dd"))).toBe("EPERM");
    expect(errno(() => link(root, "rr"))).toBe("EPERM");
    expect(unlink("f").nlink).toBe(1);
    expect(orphans()).toEqual([]);
    expect(unlink("g").nlink).toBe(0);
    reopen();
    expect(ls(root).sort()).toEqual([".", "..", "d", "lost+found"]);
  });

  test("too many links are refused: 65535 for a file, more for an indexed directory", () => {
    const f = create("f");
    run((op) => setLinks(dinodeOf(op, inodeLockModify(op, osb.inodes.get(f.ino))), 65534));
    expect(link(f.ino, "g").nlink).toBe(65535);
    expect(errno(() => link(f.ino, "h"))).toBe("EMLINK");
    const d = mkdir("d");
    for (let i = 0; i < 60; i++) create(`grow-the-directory-${i}`, d.ino);
    run((op) => setLinks(dinodeOf(op, inodeLockModify(op, osb.inodes.get(d.ino))), 65535));
    mkdir("e", d.ino);
    expect(stat(d.ino).nlink).toBe(65536);
    rmdir("e", d.ino);
    expect(stat(d.ino).nlink).toBe(65535);
    const small = mkdir("small");
    run((op) => setLinks(dinodeOf(op, inodeLockModify(op, osb.inodes.get(small.ino))), 65535));
    expect(errno(() => mkdir("e", small.ino))).toBe("EMLINK");
  });

  test("immutable and append-only inodes keep their names", () => {
    const d = mkdir("d");
    const f = create("f", d.ino);
    setAttr(f.ino, I_ATTR.IMMUTABLE);
    expect(errno(() => unlink("f", d.ino))).toBe("EPERM");
    expect(errno(() => link(f.ino, "g", d.ino))).toBe("EPERM");
    expect(errno(() => rename("f", "g", 0, d.ino, d.ino))).toBe("EPERM");
    create("other", d.ino);
    expect(errno(() => rename("other", "f", 0, d.ino, d.ino))).toBe("EPERM");
    expect(errno(() => rename("other", "f", ns.RENAME_EXCHANGE, d.ino, d.ino))).toBe("EPERM");
    setAttr(f.ino, I_ATTR.APPEND);
    expect(errno(() => unlink("f", d.ino))).toBe("EPERM");
    setAttr(f.ino, 0);
    setAttr(d.ino, I_ATTR.APPEND);
    create("new", d.ino);
    expect(errno(() => unlink("f", d.ino))).toBe("EPERM");
    expect(errno(() => rename("f", "g", 0, d.ino, d.ino))).toBe("EPERM");
    setAttr(d.ino, I_ATTR.IMMUTABLE);
    expect(errno(() => create("newer", d.ino))).toBe("EPERM");
    expect(errno(() => mkdir("newer", d.ino))).toBe("EPERM");
    expect(stat(d.ino).flags).toBe(I_ATTR.IMMUTABLE);
  });

  test("nothing can be made in a directory that was removed", () => {
    const d = mkdir("d");
    osb.inodes.get(d.ino).open_count++;
    rmdir("d");
    settle();
    expect(stat(d.ino).nlink).toBe(0);
    expect(errno(() => create("f", d.ino))).toBe("ENOENT");
    expect(errno(() => mkdir("e", d.ino))).toBe("ENOENT");
    create("f");
    expect(errno(() => rename("f", "f", 0, root, d.ino))).toBe("ENOENT");
    expect(errno(() => look("x", d.ino))).toBe("ok");
  });
});

describe.skipIf(base.length === 0)("rename", () => {
  test("moves a file and touches both directories and the file's ctime", () => {
    const a = mkdir("a");
    const b = mkdir("b");
    const f = create("f", a.ino);
    rename("f", "g", 0, a.ino, b.ino);
    expect(look("f", a.ino)).toBe(undefined);
    const g = look("g", b.ino)!;
    expect(g).toMatchObject({ ino: f.ino, nlink: 1, mtime: f.mtime });
    expect(g.ctime).toBeGreaterThan(f.ctime);
    expect([stat(a.ino).mtime, stat(b.ino).mtime]).toEqual([g.ctime, g.ctime]);
  });

  test("a directory takes its .. along", () => {
    const a = mkdir("a");
    const b = mkdir("b");
    const d = mkdir("d", a.ino);
    rename("d", "e", 0, a.ino, b.ino);
    expect(look("..", d.ino)!.ino).toBe(b.ino);
    expect([stat(a.ino).nlink, stat(b.ino).nlink]).toEqual([2, 3]);
    rename("e", "e2", 0, b.ino, b.ino);
    expect(stat(b.ino).nlink).toBe(3);
    reopen();
  });

  test("a directory does not go below itself", () => {
    const a = mkdir("a");
    const b = mkdir("b", a.ino);
    const c = mkdir("c", b.ino);
    expect(errno(() => rename("a", "x", 0, root, c.ino))).toBe("EINVAL");
    expect(errno(() => rename("a", "x", 0, root, a.ino))).toBe("EINVAL");
    expect(errno(() => rename("c", "a", 0, b.ino, root))).toBe("ENOTEMPTY");
    expect(errno(() => rename("b", "a", 0, a.ino, root))).toBe("ENOTEMPTY");
    expect(errno(() => rename("a", "c", ns.RENAME_EXCHANGE, root, b.ino))).toBe("EINVAL");
    expect(errno(() => rename("c", "a", ns.RENAME_EXCHANGE, b.ino, root))).toBe("EINVAL");
    reopen();
  });

  test("what is replaced goes to the orphans and from there", () => {
    const f = create("f");
    const g = create("g");
    osb.inodes.get(g.ino).open_count++;
    rename("f", "g");
    expect(look("g")!.ino).toBe(f.ino);
    expect(stat(g.ino).nlink).toBe(0);
    expect(orphans()).toEqual([g.ino.toString(16).padStart(16, "0")]);
    osb.inodes.get(g.ino).open_count--;
    ns.reap(osb, osb.inodes.get(g.ino));
    settle();
    expect(orphans()).toEqual([]);
    reopen();
  });

  test("types must fit: only an empty directory is replaced, by a directory", () => {
    const d = mkdir("d");
    const e = mkdir("e");
    create("f");
    expect(errno(() => rename("f", "d"))).toBe("EISDIR");
    expect(errno(() => rename("d", "f"))).toBe("ENOTDIR");
    create("x", e.ino);
    expect(errno(() => rename("d", "e"))).toBe("ENOTEMPTY");
    unlink("x", e.ino);
    const links = stat(root).nlink;
    rename("d", "e");
    expect(look("e")!.ino).toBe(d.ino);
    expect(stat(root).nlink).toBe(links - 1);
    settle();
    reopen();
  });

  test("two names of one file stay as they are", () => {
    const f = create("f");
    link(f.ino, "g");
    rename("f", "g");
    expect([look("f")!.nlink, look("g")!.nlink]).toEqual([2, 2]);
    rename("f", "f");
    expect(look("f")!.nlink).toBe(2);
  });

  test("NOREPLACE and EXCHANGE", () => {
    const a = mkdir("a");
    const b = mkdir("b");
    const d = mkdir("d", a.ino);
    const f = create("f", b.ino);
    expect(errno(() => rename("d", "f", ns.RENAME_NOREPLACE, a.ino, b.ino))).toBe("EEXIST");
    expect(errno(() => rename("d", "none", ns.RENAME_EXCHANGE, a.ino, b.ino))).toBe("ENOENT");
    expect(errno(() => rename("d", "f", 3, a.ino, b.ino))).toBe("EINVAL");
    expect(errno(() => rename("d", "f", 4, a.ino, b.ino))).toBe("EINVAL");
    rename("d", "f", ns.RENAME_EXCHANGE, a.ino, b.ino);
    expect(look("d", a.ino)!.ino).toBe(f.ino);
    expect(look("f", b.ino)!.ino).toBe(d.ino);
    expect(look("..", d.ino)!.ino).toBe(b.ino);
    expect([stat(a.ino).nlink, stat(b.ino).nlink]).toEqual([2, 3]);
    rename("f", "free", ns.RENAME_NOREPLACE, b.ino, b.ino);
    expect(look("free", b.ino)!.ino).toBe(d.ino);
    rename("a", "b", ns.RENAME_EXCHANGE);
    expect(look("a")!.ino).toBe(b.ino);
    reopen();
  });

  test("dots and missing names are refused", () => {
    create("f");
    expect(errno(() => rename(".", "x"))).toBe("EBUSY");
    expect(errno(() => rename("f", ".."))).toBe("EBUSY");
    expect(errno(() => rename("none", "x"))).toBe("ENOENT");
    expect(errno(() => rename("f", "x".repeat(256)))).toBe("ENAMETOOLONG");
  });
});

describe.skipIf(base.length === 0)("orphans", () => {
  test("an open file lives on after its last name, and is gone after its last close", () => {
    const f = create("f");
    const inode = osb.inodes.get(f.ino);
    inode.open_count++;
    unlink("f");
    settle();
    expect(stat(f.ino)).toMatchObject({ nlink: 0, ino: f.ino });
    expect(osb.runTaskSync(wipeInode(osb, inode))).toBe(false);
    inode.open_count--;
    expect(osb.runTaskSync(wipeInode(osb, inode))).toBe(true);
    expect(errno(() => stat(f.ino))).toBe("ESTALE");
    expect(orphans()).toEqual([]);
    reopen();
  });

  test("what a crash leaves in the orphan directory goes at the next mount", () => {
    const d = mkdir("d");
    for (let i = 0; i < 400; i++) create(`name-number-${i}`, d.ino);
    for (let i = 0; i < 400; i++) unlink(`name-number-${i}`, d.ino);
    settle();
    const f = create("f");
    const s = run((op) => ns.symlink(op, root, N("s"), N("t".repeat(3000)), cred));
    for (const ino of [d.ino, f.ino, s.ino]) osb.inodes.get(ino).open_count++;
    rmdir("d");
    unlink("f");
    unlink("s");
    settle();
    expect(orphans().length).toBe(3);
    osb.runTaskSync(
      (function* () {
        yield osb.journal.flush;
      })(),
    );
    const crashed = image.slice();
    // fsck counts "." and the orphan directory's entry for a removed directory, which has no links: as the kernel leaves it.
    const expected = `[INODE_COUNT] Inode ${d.ino} `;
    const complaints = fsck(crashed)
      .output.split("\n")
      .filter((l) => l.startsWith("["));
    expect(complaints.filter((l) => !l.startsWith(expected))).toEqual([]);
    image = crashed;
    open();
    expect(orphans()).toEqual([]);
    for (const ino of [d.ino, f.ino, s.ino]) expect(errno(() => stat(ino))).toMatch(/ESTALE|EIO/);
    reopen();
  });

  test("a file made without a name can be given one", () => {
    const t = run((op) => ns.tmpfile(op, root, 0o600, cred));
    expect(t).toMatchObject({ nlink: 0, mode: 0o100600 });
    expect(orphans().length).toBe(1);
    expect(link(t.ino, "named")).toMatchObject({ nlink: 1, ino: t.ino });
    expect(orphans()).toEqual([]);
    const flags = run((op) => dinodeOf(op, inodeLockModify(op, osb.inodes.get(t.ino))).i_flags);
    expect(flags & I_FLAGS.ORPHANED).toBe(0);
    const x = run((op) => ns.tmpfile(op, root, 0o600, cred, true));
    expect(errno(() => link(x.ino, "never"))).toBe("ENOENT");
    ns.reap(osb, osb.inodes.get(x.ino));
    settle();
    expect(orphans()).toEqual([]);
    reopen();
    expect(look("named")!.ino).toBe(t.ino);
  });

  test("an orphan without an entry in the orphan directory is left alone, and said so", () => {
    const f = create("f");
    osb.inodes.get(f.ino).open_count++;
    unlink("f");
    run((op) => {
      dinodeOf(op, inodeLockModify(op, osb.inodes.get(f.ino))).i_orphaned_slot = 0;
      const d = lockDir(op, osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, 0), true);
      op.modify(d.di_bh);
      osb.cache.u8.fill(0x41, d.di_bh.addr + 0xc8 + 32 + 12, d.di_bh.addr + 0xc8 + 32 + 28);
    });
    osb.inodes.get(f.ino).open_count--;
    expect(() => osb.runTaskSync(wipeInode(osb, osb.inodes.get(f.ino)))).toThrow(/no entry in the orphan directory/);
    expect(osb.runTaskSync(recoverOrphans(osb, 0))).toBe(0);
    expect(stat(f.ino).nlink).toBe(0);
  });
});
