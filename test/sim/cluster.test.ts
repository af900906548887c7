/**
 * Two to four mounted volumes of ours on one disk, scenario by scenario: what one does the others see at once, and what one leaves
 * behind the others clean up. sim.test.ts has the random histories.
 */
import { afterEach, describe, expect, test } from "vitest";
import { EX, NL, PR } from "../../src/dlmglue/lock_res.ts";
import { LockSet } from "../../src/dlmglue/lock_set.ts";
import { lockName } from "../../src/dlmglue/lock_types.ts";
import {
  Dinode,
  I_FLAGS,
  JOURNAL_FLAGS,
  modeToFileType,
  SYSTEM_INODE,
  type SystemInode,
} from "../../src/format/disk/index.ts";
import { MetaLvb } from "../../src/format/wire/lvb.ts";
import { Errno } from "../../src/lib/errno.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { spawn, wait } from "../../src/lib/task.ts";
import { fallocate, fsync, readFile, setattr, statfs, writeFile } from "../../src/vfs/file.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { allocState } from "../../src/volume/alloc/alloc_state.ts";
import { dentryLocks } from "../../src/volume/dir/dentry_locks.ts";
import { addEntry, deleteEntry, findEntry, openDir } from "../../src/volume/dir/dir.ts";
import { lockDir } from "../../src/volume/dir/iget.ts";
import { nameOf } from "../../src/volume/dir/name.ts";
import { orphanName } from "../../src/volume/dir/orphan.ts";
import { readAll } from "../../src/volume/dir/readdir.ts";
import { lookIntoAllocators } from "../../src/volume/dir/seen.ts";
import { lookIfUnused, recoverOrphans } from "../../src/volume/dir/wipe.ts";
import { getBlocks } from "../../src/volume/extents/extent_map.ts";
import { Flock } from "../../src/volume/file/flock.ts";
import { dinodeOf, type Inode, inodeLock, openLock, readDinode } from "../../src/volume/inode.ts";
import { ORPHAN_SCAN_MS, orphanScan, orphanScanOf } from "../../src/volume/orphan_scan.ts";
import type { Sabotage } from "../../src/volume/osb.ts";
import { dropJournalLock, journalToggleDirty, superLock, tryLockJournal } from "../../src/volume/recovery.ts";
import { reflinkTask } from "../../src/volume/refcount/index.ts";
import { freeSlots, slotNode } from "../../src/volume/slot_map.ts";
import { closeVolume, syncVolume } from "../../src/volume/super.ts";
import type { Arena } from "../../src/wasm/arena.ts";
import { type ClusterOptions, SimCluster, type SimNode } from "../support/cluster.ts";
import { fsckUnavailable } from "../support/judges.ts";
import { logged } from "../support/logged.ts";
import { bufferOf, CRED } from "./model.ts";
import { judge, simImage } from "./volumes.ts";

const no_fsck = fsckUnavailable();
if (no_fsck !== undefined) console.warn(`SKIPPED: the volumes are not checked: ${no_fsck}`);

let c: SimCluster;
let image: Uint8Array;

function cluster(options: Partial<ClusterOptions> = {}): SimCluster {
  image = simImage(0).image;
  c = new SimCluster({ seed: 1, image, ...options });
  return c;
}

/** Unmounts all, and has fsck.ocfs2 look. */
function sound(): void {
  while (c.mounted.length > 0) c.umount(c.mounted[0]!);
  if (no_fsck === undefined) expect(judge(image, [])).toEqual([]);
}

afterEach(() => c.dispose());

const root = (node: SimNode): number => node.osb.geo.root_blkno;
const lookup = (node: SimNode, name: string, dir = root(node)): ReturnType<typeof ns.lookup> =>
  c.op(node, (op) => ns.lookup(op, dir, nameOf(name)));
const create = (node: SimNode, name: string, dir = root(node)): number =>
  c.op(node, (op) => ns.create(op, dir, nameOf(name), 0o644, CRED)).ino;

function write(node: SimNode, ino: number, text: string, offset = 0, append = false): void {
  const { osb } = node;
  const addr = bufferOf(osb);
  osb.arena.u8.set(Buffer.from(text), addr);
  const len = text.length;
  c.task(
    node,
    wait<number>((cb) => writeFile(osb, osb.inodes.get(ino), { offset, len, addr, append }, cb)),
  );
}

function read(node: SimNode, ino: number): string {
  const { osb } = node;
  const addr = bufferOf(osb);
  const n = c.task(
    node,
    wait<number>((cb) => readFile(osb, osb.inodes.get(ino), { offset: 0, len: 65536, addr }, cb)),
  );
  return Buffer.from(osb.arena.u8.slice(addr, addr + n)).toString("latin1");
}

function names(node: SimNode, dir: number): string[] {
  return c.op(node, (op) => {
    const d = lockDir(op, node.osb.inodes.get(dir));
    return readAll(openDir(op, d.inode, d.di_bh))
      .map((r) => Buffer.from(r.name).toString())
      .filter((n) => n !== "." && n !== ".." && n !== "lost+found");
  });
}

const codeOf = (fn: () => unknown): string => {
  try {
    fn();
    return "ok";
  } catch (err) {
    if (err instanceof FsError) return err.code;
    throw err;
  }
};

/** A use of a file as by a program that has it open. */
function open(node: SimNode, name: string): { ino: number; close(): void } {
  const { osb } = node;
  const ino = c.op(node, (op) => {
    const attr = ns.lookup(op, root(node), nameOf(name))!;
    op.onSuccess(() => {
      osb.inodes.get(attr.ino).open_count++;
    });
    return attr.ino;
  });
  return {
    ino,
    close() {
      osb.inodes.get(ino).open_count--;
      ns.reap(osb, osb.inodes.get(ino));
    },
  };
}

describe("what one node does the other sees at once", () => {
  test.each([
    [1, 2],
    [2, 1],
  ])("node %i does, node %i has warm caches", (first, second) => {
    cluster();
    for (const n of [1, 2]) c.mount(n);
    const [a, b] = [c.nodes.get(first)!, c.nodes.get(second)!];
    const dir = c.op(a, (op) => ns.mkdir(op, root(a), nameOf("d"), 0o755, CRED)).ino;
    expect(lookup(b, "d")!.ino).toBe(dir);
    const warm = (): string[] => names(b, dir);
    expect(warm()).toEqual([]);
    const f = create(a, "f", dir);
    expect(warm()).toEqual(["f"]);
    write(a, f, "hello");
    expect(lookup(b, "f", dir)!.size).toBe(5);
    expect(read(b, f)).toBe("hello");
    write(a, f, "J");
    expect(read(b, f)).toBe("Jello");
    write(b, f, "x".repeat(10_000), 5);
    expect(read(a, f)).toBe(`Jello${"x".repeat(10_000)}`);
    c.task(
      a,
      wait((cb) => setattr(a.osb, a.osb.inodes.get(f), { size: 7 }, cb)),
    );
    expect(read(b, f)).toBe("Jelloxx");
    c.task(
      a,
      wait((cb) => setattr(a.osb, a.osb.inodes.get(f), { mode: 0o600, uid: 7, mtime: { sec: 5, nsec: 6 } }, cb)),
    );
    expect(c.op(b, (op) => ns.getattr(op, f))).toMatchObject({ mode: 0o100600, uid: 7, mtime: 5, mtime_nsec: 6 });
    c.task(
      a,
      wait<void>((cb) => fallocate(a.osb, a.osb.inodes.get(f), 3, 0, 4, cb)),
    );
    expect(read(b, f)).toBe("\0\0\0\0oxx");
    c.op(a, (op) => ns.link(op, f, dir, nameOf("g")));
    expect(c.op(b, (op) => ns.getattr(op, f)).nlink).toBe(2);
    expect(warm().sort()).toEqual(["f", "g"]);
    c.op(a, (op) => ns.rename(op, dir, nameOf("f"), root(a), nameOf("moved")));
    expect(warm()).toEqual(["g"]);
    expect(lookup(b, "moved")!.ino).toBe(f);
    const link = c.op(a, (op) => ns.symlink(op, dir, nameOf("s"), nameOf("target"), CRED)).ino;
    expect(lookup(b, "s", dir)!.ino).toBe(link);
    expect(Buffer.from(c.op(b, (op) => ns.readlink(op, link))).toString()).toBe("target");
    write(a, f, "y".repeat(70_000));
    const src = a.osb.inodes.get(f);
    const copy = c.task(
      a,
      reflinkTask(a.osb, src, a.osb.inodes.get(dir), nameOf("copy"), { preserve: false, cred: CRED }),
    );
    expect(lookup(b, "copy", dir)!.size).toBe(70_000);
    write(b, copy.ino, "z");
    expect(read(a, copy.ino).slice(0, 3)).toBe("zyy");
    expect(read(a, f).slice(0, 3)).toBe("yyy");
    for (const name of ["g", "s", "copy"]) c.op(a, (op) => ns.unlink(op, dir, nameOf(name)));
    expect(warm()).toEqual([]);
    expect(lookup(b, "g", dir)).toBeUndefined();
    c.op(a, (op) => ns.rmdir(op, root(a), nameOf("d")));
    expect(lookup(b, "d")).toBeUndefined();
    sound();
  });

  test("a stat of a file that the other node writes reads no disk", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    lookup(b, "f");
    for (let i = 1; i < 5; i++) {
      write(a, f, "x".repeat(1000 * i));
      const reads = b.dev.reads;
      expect(c.op(b, (op) => ns.getattr(op, f)).size).toBe(1000 * i);
      expect(b.dev.reads).toBe(reads);
    }
    // Another file in the same block: the LVB is not its own.
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    expect(codeOf(() => c.op(b, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("times that only the lock's value block has stay when the file is changed next", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "x");
    lookup(b, "f");
    // As a direct write in place on a kernel node: the time moves in its memory only.
    c.task(a, wait(a.osb.journal.flush));
    const moved_s = c.op(a, (op) => ns.getattr(op, f)).mtime + 1000;
    c.op(a, (op) => {
      dinodeOf(op, inodeLock(op, a.osb.inodes.get(f), true)).i_mtime = moved_s;
    });
    c.task(
      b,
      wait((cb) => setattr(b.osb, b.osb.inodes.get(f), { mode: 0o600 }, cb)),
    );
    expect(c.op(b, (op) => ns.getattr(op, f)).mtime).toBe(moved_s);
    expect(c.op(a, (op) => ns.getattr(op, f))).toMatchObject({ mtime: moved_s, mode: 0o100600 });
    // What fails leaves everything as it was.
    c.op(a, (op) => {
      dinodeOf(op, inodeLock(op, a.osb.inodes.get(f), true)).i_mtime = moved_s + 5;
    });
    const missed = (): unknown =>
      c.op(b, (op) => {
        inodeLock(op, b.osb.inodes.get(f), true);
        throw new FsError(Errno.ENOENT, "test", {});
      });
    expect(codeOf(missed)).toBe("ENOENT");
    expect(c.op(a, (op) => ns.getattr(op, f)).mtime).toBe(moved_s + 5);
    sound();
  });

  test("the value block of an allocator says what its dinode says, whoever changed that", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const dir = c.op(a, (op) => ns.mkdir(op, root(a), nameOf("d"), 0o755, CRED)).ino;
    /** Looks into node 1's inode allocator as a kernel node does that finds it empty itself, and leaves a value block behind. */
    const look = (): { lvb: number[]; disk: number[] } => {
      const inode = b.osb.sysfile(SYSTEM_INODE.INODE_ALLOC, a.osb.slot_num);
      return c.op(b, (op) => {
        const di = dinodeOf(op, inodeLock(op, inode, true));
        inode.generation = di.i_generation;
        const { lvb } = inode.meta_lockres!;
        const v = MetaLvb.at(new DataView(lvb.buffer, lvb.byteOffset, lvb.byteLength), 0);
        return { lvb: [v.lvb_version, v.lvb_iclusters, v.lvb_isize], disk: [5, di.i_clusters, di.i_size] };
      });
    };
    look();
    const seen: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      for (let f = 0; f < 400; f++) create(a, `f${i}-${f}`, dir);
      const { lvb, disk } = look();
      expect(lvb).toEqual(disk);
      seen.push(disk[1]);
    }
    expect(new Set(seen).size).toBeGreaterThan(1);
    sound();
  });

  test("records that all append are there once each, whole", () => {
    cluster();
    const nodes = [c.mount(1), c.mount(2), c.mount(3)];
    const f = create(nodes[0]!, "log");
    for (const n of nodes) lookup(n, "log");
    let left = 0;
    for (let i = 0; i < 60; i++) {
      const node = nodes[i % 3]!;
      const addr = node.osb.arena.alloc(64, 64);
      node.osb.arena.u8.set(Buffer.from(`${i}`.padEnd(64, ".")), addr);
      left++;
      writeFile(node.osb, node.osb.inodes.get(f), { offset: 0, len: 64, addr, append: true }, () => {
        left--;
      });
    }
    c.run(() => left === 0);
    const text = read(nodes[1]!, f);
    const seen = text.match(/.{64}/g)!.map((r) => Number(r.replace(/\.+$/, "")));
    expect(seen.sort((x, y) => x - y)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    sound();
  });
});

describe("deleting", () => {
  test("fsync flushes the disk for what another node has written back and handed over, once", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "of node 1".repeat(2000));
    expect(lookup(b, "f")!.ino).toBe(f);
    expect(read(b, f)).toHaveLength(18_000);
    let flushes = 0;
    const flush = b.dev.flush.bind(b.dev);
    b.dev.flush = (done) => {
      flushes++;
      flush(done);
    };
    const sync = (): void =>
      c.task(
        b,
        wait<void>((cb) => fsync(b.osb, b.osb.inodes.get(f), true, cb)),
      );
    sync();
    expect(flushes).toBe(1);
    sync();
    expect(flushes).toBe(1);
    sound();
  });

  test("a file that is open elsewhere keeps its data, and goes with its last user", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "data".repeat(5000));
    const file = open(b, "f");
    const free = (): number => c.op(a, (op) => statfs(op)).bfree;
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(10_000);
    expect(read(b, file.ino)).toBe("data".repeat(5000));
    const before = free();
    file.close();
    c.sleep(10_000);
    expect(codeOf(() => c.op(b, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    c.umount(b);
    expect(free()).toBeGreaterThan(before);
    sound();
  });

  test("with metaecc: who looks at a file that another node has deleted finds it gone, not broken", () => {
    ({ image } = simImage(1));
    c = new SimCluster({ seed: 1, image });
    const [a, b] = [c.mount(1), c.mount(2)];
    for (const name of ["f", "g"]) {
      const f = create(a, name);
      write(a, f, "x".repeat(9000));
      lookup(b, name);
      c.op(a, (op) => ns.unlink(op, root(a), nameOf(name)));
      if (name === "f") c.sleep(1000);
      expect(codeOf(() => c.op(b, (op) => ns.getattr(op, f)))).toBe("ESTALE");
      expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    }
    while (c.mounted.length > 0) c.umount(c.mounted[0]!);
    if (no_fsck === undefined) expect(judge(image, simImage(1).known)).toEqual([]);
  });

  test("a block that was a file's that nobody else knew of is read anew: another node may have made a file there", () => {
    cluster();
    const a = c.mount(1);
    const f = create(a, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    c.task(a, wait(a.osb.journal.flush));
    // As a node does that has run out of inodes, and steals from our allocator.
    const di = Dinode.at(new DataView(image.buffer), f * a.osb.geo.blocksize);
    di.i_generation += 7;
    const inode = a.osb.inodes.get(f);
    expect(c.op(a, (op) => dinodeOf(op, readDinode(op, inode)).i_generation)).toBe(di.i_generation);
  });

  test("a file that was just made and is open: nobody else deletes it", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const { osb } = a;
    const ino = c.op(a, (op) => {
      const attr = ns.create(op, root(a), nameOf("f"), 0o644, CRED);
      op.onSuccess(() => {
        osb.inodes.get(attr.ino).open_count++;
      });
      return attr.ino;
    });
    c.op(b, (op) => ns.unlink(op, root(b), nameOf("f")));
    c.sleep(3000);
    write(a, ino, "still here");
    expect(read(a, ino)).toBe("still here");
    osb.inodes.get(ino).open_count--;
    ns.reap(osb, osb.inodes.get(ino));
    c.sleep(3000);
    expect(codeOf(() => c.op(a, (op) => ns.getattr(op, ino)))).toBe("ESTALE");
    sound();
  });

  test.each(["without its meta lock", "with its meta lock, which came later"])(
    "who has asked for the open lock of a file and then does not use it deletes what was left to it: %s",
    (how) => {
      cluster();
      const [a, b] = [c.mount(1), c.mount(2)];
      const f = create(a, "f");
      expect(names(b, root(b))).toEqual(["f"]);
      const inode = b.osb.inodes.get(f);
      const locks = new LockSet();
      c.task(b, wait(b.osb.step((op) => openLock(op, inode), locks)));
      c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
      c.sleep(1000);
      // Refused, and left to us.
      expect(c.op(a, (op) => dinodeOf(op, inodeLock(op, a.osb.inodes.get(f))).i_flags & I_FLAGS.ORPHANED)).not.toBe(0);
      if (how.startsWith("with its")) c.task(b, wait(b.osb.step((op) => void inodeLock(op, inode), locks)));
      locks.releaseAll();
      c.sleep(1000);
      expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
      sound();
    },
  );

  test("a name leads to a new file while it is looked up whether the one before in its block was left to us", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    lookup(b, "f");
    const { inodes } = b.osb;
    const old = inodes.get(f);
    // Such a look is under way at `b`: it has given up the open lock, and waits for the meta lock.
    c.op(b, (op) =>
      op.onSuccess(() => {
        old.task_count++;
        old.look_count++;
      }),
    );
    c.task(b, b.osb.glue.giveUpTask(old.open_lockres));
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    expect(create(a, "g")).toBe(f);
    write(a, f, "new");
    expect(lookup(b, "g")!.ino).toBe(f);
    expect(read(b, f)).toBe("new");
    old.look_count--;
    old.task_count--;
    sound();
  });

  test.each<[string, Sabotage[], number, string]>([
    ["gives its lock back: the next in its block may come and go without a word", [], NL, "ok"],
    ["without that keeps it, and what it has read: the test notices", ["drop_stale"], PR, "ESTALE"],
  ])("who came too late for a file %s", (_, sabotage, level, found) => {
    cluster({ sabotage });
    const [a, b] = [c.mount(1), c.mount(3)];
    const f = create(a, "f");
    expect(names(b, root(b))).toEqual(["f"]);
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    const late = b.osb.inodes.get(f);
    expect(codeOf(() => c.op(b, (op) => inodeLock(op, late)))).toBe("ESTALE");
    // On its way out: who makes room in the cache of inodes goes on to the next.
    expect(late.isIdle).toBe(level === PR);
    c.sleep(1000);
    expect(late.meta_lockres!.level).toBe(level);
    expect(create(a, "g")).toBe(f);
    // Its locks were never asked for.
    c.umount(a);
    expect(codeOf(() => lookup(b, "g"))).toBe(found);
    sound();
  });

  test("a look whether a file was left to us finds that we have deleted it: it asks for no lock of the next in its block", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    const old = a.osb.inodes.get(f);
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    expect(a.osb.inodes.peek(f)).toBe(undefined);
    old.maybe_orphaned = true;
    lookIfUnused(a.osb, old);
    expect(create(a, "g")).toBe(f);
    c.sleep(1000);
    expect(old.meta_lockres).toBe(null);
    expect(lookup(b, "g")!.ino).toBe(f);
    sound();
  });

  test("the node that has it open dies: whoever unlinked it deletes it", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    c.kill(b);
    c.sleep(5000);
    expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("the node that has it open dies, and whoever unlinked it has left: who recovers the dead deletes it", () => {
    cluster();
    const [a, b, d] = [c.mount(1), c.mount(2), c.mount(3)];
    const f = create(a, "f");
    open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.umount(a);
    c.kill(b);
    c.sleep(5000);
    expect(codeOf(() => c.op(d, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("the node that has it open dies, and nobody is left: who mounts next looks into the slots of those who had left, too", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.umount(a);
    c.kill(b);
    const again = c.mount(2);
    expect(again.osb.slot_num).toBe(1);
    c.sleep(5000);
    expect(codeOf(() => c.op(again, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("without the open lock the data goes from under its reader: the test notices", () => {
    cluster({ sabotage: ["open_lock"] });
    const [a, b] = [c.mount(1), c.mount(2)];
    create(a, "f");
    const file = open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(5000);
    expect(codeOf(() => read(b, file.ino))).toBe("ESTALE");
  });

  test("what the orphan directory does not name has been deleted, whatever the block says that a kernel node left behind", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "data".repeat(5000));
    const file = open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    /** The entry goes, and the inode's block stays as it was; or the entry comes back. */
    const entry = (there: boolean): void =>
      c.op(a, (op) => {
        const dir = lockDir(op, a.osb.sysfile(SYSTEM_INODE.ORPHAN_DIR, a.osb.slot_num), true);
        const d = openDir(op, dir.inode, dir.di_bh);
        if (there) addEntry(d, orphanName(f), f, modeToFileType(0o100644));
        else deleteEntry(d, findEntry(d, orphanName(f))!);
      });
    const free = (): number => c.op(a, (op) => statfs(op)).bfree;
    entry(false);
    const before = free();
    file.close();
    c.sleep(5000);
    c.task(b, recoverOrphans(b.osb, a.osb.slot_num));
    expect(c.op(a, (op) => dinodeOf(op, inodeLock(op, a.osb.inodes.get(f))).i_clusters)).toBe(5);
    expect(free()).toBe(before);
    entry(true);
    c.task(b, recoverOrphans(b.osb, a.osb.slot_num));
    expect(codeOf(() => c.op(b, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("the orphan scan: one node of all in each interval", () => {
    cluster();
    const nodes = [c.mount(1), c.mount(2), c.mount(3)];
    for (let i = 0; i < 6; i++) c.sleep(ORPHAN_SCAN_MS);
    const counts = nodes.map((n) => orphanScanOf(n.osb).count);
    const scans = counts.reduce((x, y) => x + y, 0);
    // The kernel's rule lets nobody scan in the interval in which all learn of the last scan.
    expect(scans).toBeGreaterThan(0);
    expect(scans).toBeLessThanOrEqual(6);
    sound();
  });

  test("the orphan scan finds what was left in any slot", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    const file = open(b, "f");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("f")));
    c.sleep(1000);
    // Closed by a program whose end nobody told us of.
    b.osb.inodes.get(file.ino).open_count--;
    c.task(b, b.osb.glue.giveUpTask(b.osb.inodes.get(file.ino).open_lockres));
    for (let i = 0; i < 4; i++) c.task(b, orphanScan(b.osb));
    expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });
});

describe("inodes that nobody else can know", () => {
  /** Which of these the cluster knows by their meta locks. */
  const known = (node: SimNode, ...inos: number[]): number[] => {
    const names = new Set([...node.osb.glue.attached].map((res) => res.name));
    return inos.filter((ino) => names.has(lockName("M", ino, 0)));
  };
  const mkdir = (node: SimNode, name: string, dir = root(node)): number =>
    c.op(node, (op) => ns.mkdir(op, dir, nameOf(name), 0o755, CRED)).ino;

  test("a tree that is made and deleted costs no lock", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    create(a, "warm");
    c.op(a, (op) => ns.unlink(op, root(a), nameOf("warm")));
    c.sleep(1000);
    const before = [a, b].map((n) => n.osb.glue.attached.size);
    const dir = mkdir(a, "d");
    for (let i = 0; i < 20; i++) write(a, create(a, `f${i}`, dir), "text");
    c.op(a, (op) => ns.rename(op, dir, nameOf("f0"), dir, nameOf("f1")));
    expect(a.osb.unshared.size).toBeGreaterThanOrEqual(20);
    for (let i = 1; i < 20; i++) c.op(a, (op) => ns.unlink(op, dir, nameOf(`f${i}`)));
    c.op(a, (op) => ns.rmdir(op, root(a), nameOf("d")));
    c.sleep(1000);
    expect(a.osb.unshared.size).toBe(0);
    expect([a, b].map((n) => n.osb.glue.attached.size)).toEqual(before);
    sound();
  });

  test("who finds a directory finds the locks of what is in it, and no others", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const outer = mkdir(a, "outer");
    const inner = mkdir(a, "inner", outer);
    const f = create(a, "f", inner);
    expect(known(a, outer, inner, f)).toEqual([]);
    expect(names(b, root(b))).toEqual(["outer"]);
    expect(known(a, outer, inner, f)).toEqual([outer]);
    lookup(b, "outer");
    expect(names(b, outer)).toEqual(["inner"]);
    expect(known(a, inner, f)).toEqual([inner]);
    lookup(b, "inner", outer);
    expect(lookup(b, "f", inner)?.ino).toBe(f);
    expect(known(a, f)).toEqual([f]);
    write(b, f, "theirs");
    expect(read(a, f)).toBe("theirs");
    sound();
  });

  test("a second way to an inode asks for its locks", () => {
    cluster();
    const a = c.mount(1);
    c.mount(2);
    const [d1, d2] = [mkdir(a, "d1"), mkdir(a, "d2")];
    const below = mkdir(a, "below", d2);
    const [linked, moved, same] = ["linked", "moved", "same"].map((n) => create(a, n, d1)) as [number, number, number];
    const dir = mkdir(a, "dir", d1);
    const all = (): number[] => known(a, d1, d2, below, linked, moved, same, dir);
    c.op(a, (op) => ns.link(op, same, d1, nameOf("again")));
    c.op(a, (op) => ns.rename(op, d1, nameOf("again"), d1, nameOf("other")));
    expect(all()).toEqual([]);
    c.op(a, (op) => ns.link(op, linked, d2, nameOf("l")));
    expect(all()).toEqual([linked]);
    c.op(a, (op) => ns.rename(op, d1, nameOf("moved"), below, nameOf("m")));
    expect(all()).toEqual([linked, moved]);
    // Its ".." leads to all above.
    c.op(a, (op) => ns.rename(op, d1, nameOf("dir"), below, nameOf("dir")));
    expect(all()).toEqual([d2, below, linked, moved, dir]);
    sound();
  });

  test("what was deleted and is open is found in the orphan directory, with its locks", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const d = mkdir(a, "d");
    const f = create(a, "f", d);
    const other = create(a, "other", d);
    a.osb.inodes.get(f).open_count++;
    write(a, f, "kept");
    c.op(a, (op) => ns.unlink(op, d, nameOf("f")));
    expect(known(a, f, other)).toEqual([]);
    expect(c.task(b, recoverOrphans(b.osb, a.osb.slot_num))).toBe(0);
    expect(known(a, f, other)).toEqual([f]);
    expect(read(a, f)).toBe("kept");
    a.osb.inodes.get(f).open_count--;
    ns.reap(a.osb, a.osb.inodes.get(f));
    c.sleep(3000);
    expect(known(a, f)).toEqual([]);
    expect(codeOf(() => c.op(a, (op) => ns.getattr(op, f)))).toBe("ESTALE");
    sound();
  });

  test("who has a file handle finds it with its locks", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f", mkdir(a, "d"));
    write(a, f, "text");
    expect(known(a, f)).toEqual([]);
    c.op(b, lookIntoAllocators);
    expect(known(a, f)).toEqual([f]);
    expect(read(b, f)).toBe("text");
    sound();
  });

  test("a directory with very many: the oldest are asked for before anybody looks", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const dir = mkdir(a, "d");
    const inos = Array.from({ length: 2200 }, (_, i) => create(a, `f${i}`, dir));
    c.sleep(1000);
    expect(a.osb.unshared.size).toBeLessThanOrEqual(2049);
    expect(known(a, inos[0]!, inos.at(-1)!)).toEqual([inos[0]]);
    lookup(b, "d");
    expect(names(b, dir).length).toBe(2200);
    expect(known(a, inos.at(-1)!)).toEqual([inos.at(-1)]);
    expect(a.osb.unshared.size).toBe(0);
    sound();
  }, 60_000);
});

/** Both nodes have the names of a directory cached, and delete in it at the same time. */
function twoRm(sabotage: Sabotage[]): void {
  cluster({ sabotage });
  const nodes = [c.mount(1), c.mount(2)];
  const dir = c.op(nodes[0]!, (op) => ns.mkdir(op, root(nodes[0]!), nameOf("d"), 0o755, CRED)).ino;
  const forgotten: string[] = [];
  for (let i = 0; i < 12; i++) create(nodes[0]!, `f${i}`, dir);
  for (const node of nodes) {
    const { osb } = node;
    expect(lookup(node, "d")!.ino).toBe(dir);
    osb.kernel_caches = {
      invalidate: () => (cb) => cb(null),
      doubtAttributes() {},
      drop: () => (cb) => cb(null),
      invalidateEntry: (parent, ino) => void forgotten.push(`${node.num}: ${parent}/${ino}`),
    };
    for (let i = 0; i < 12; i++)
      c.op(node, (op) => {
        const attr = ns.lookup(op, dir, nameOf(`f${i}`))!;
        dentryLocks(osb).attach(op, osb.inodes.get(dir), osb.inodes.get(attr.ino));
      });
  }
  expect(nodes.map((n) => dentryLocks(n.osb).size)).toEqual([12, 12]);
  let left = 12;
  for (let i = 0; i < 12; i++) {
    const { osb } = nodes[i % 2]!;
    osb.exec(
      (op) => ns.unlink(op, dir, nameOf(`f${i}`)),
      (err) => {
        if (err) c.failures.push(String(err));
        // What a dentry's invalidation would wait for in the kernel: no rm holds the directory any more.
        if (--left === 0) for (const n of nodes) dentryLocks(n.osb).sabotage_wait.wakeAll();
      },
    );
  }
  c.run(() => left === 0);
  c.sleep(100);
  expect(forgotten.length).toBe(12);
  expect(nodes.map((n) => names(n, dir))).toEqual([[], []]);
  sound();
}

describe("names", () => {
  test("two rm in one directory, on two nodes that know its names", () => twoRm([]));
  test("a dentry lock that waits for the directory locks the cluster: the test notices", () => {
    expect(() => twoRm(["dentry_waits"])).toThrow("stands still");
  });

  test("directories are moved below each other from two nodes: one must fail", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const mkdir = (name: string): number => c.op(a, (op) => ns.mkdir(op, root(a), nameOf(name), 0o755, CRED)).ino;
    for (let i = 0; i < 5; i++) {
      const [x, y] = [mkdir(`x${i}`), mkdir(`y${i}`)];
      const answers: string[] = [];
      const move = (node: SimNode, from: string, into: number): void =>
        node.osb.exec(
          (op) => ns.rename(op, root(node), nameOf(from), into, nameOf("in")),
          (err) => answers.push(err instanceof FsError ? err.code : err ? String(err) : "ok"),
        );
      move(a, `x${i}`, y);
      move(b, `y${i}`, x);
      c.run(() => answers.length === 2);
      expect(answers.sort().join()).toMatch(/^(EINVAL|ENOENT|ESTALE),ok$/);
    }
    sound();
  });
});

describe("locks", () => {
  const upconvert = (sabotage: Sabotage[]): void => {
    cluster({ sabotage });
    const nodes = [c.mount(1), c.mount(2), c.mount(3)];
    const f = create(nodes[0]!, "f");
    for (const n of nodes) expect(lookup(n, "f")!.ino).toBe(f);
    for (let i = 0; i < 5; i++) {
      for (const n of nodes) c.op(n, (op) => ns.getattr(op, f));
      let left = 3;
      for (const n of nodes)
        setattr(n.osb, n.osb.inodes.get(f), { mode: 0o600 + i }, (err) => {
          if (err) c.failures.push(String(err));
          left--;
        });
      c.run(() => left === 0);
    }
    sound();
  };

  test("nodes that all hold PR and all want EX do not wait for each other", () => {
    upconvert([]);
    expect(c.dlm.cancels).toBeGreaterThan(0);
  });

  test("without calling conversions off they do: the test notices", () => {
    expect(() => upconvert(["cancel_convert"])).toThrow("stands still");
  });

  test("what is gone leaves no lock behind", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    create(a, "first");
    c.sleep(3000);
    const before = [a, b].map((n) => n.osb.glue.attached.size);
    for (let i = 0; i < 60; i++) {
      const f = create(a, `f${i}`);
      lookup(b, `f${i}`);
      write(b, f, "x");
      c.op(i % 2 === 0 ? a : b, (op) => ns.unlink(op, root(a), nameOf(`f${i}`)));
    }
    c.sleep(3000);
    const after = [a, b].map((n) => n.osb.glue.attached.size);
    // The allocators and orphan directories that were not known before.
    for (let i = 0; i < 2; i++) expect(after[i]! - before[i]!, `node ${i + 1}`).toBeLessThan(20);
    expect([a, b].map((n) => dentryLocks(n.osb).size)).toEqual([0, 0]);
    sound();
  });

  test("flock: across nodes and within one, with trylock and signals", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    lookup(b, "f");
    const [fa, fa2, fb] = [a, a, b].map((n) => new Flock(n.osb, n.osb.inodes.get(f))) as [Flock, Flock, Flock];
    c.task(a, fa.set("shared"));
    c.task(b, fb.set("shared", true));
    expect(codeOf(() => c.task(a, fa2.set("exclusive", true)))).toBe("EAGAIN");
    c.task(a, fa.set("unlock"));
    expect(codeOf(() => c.task(a, fa2.set("exclusive", true)))).toBe("EAGAIN");
    let got = "";
    spawn(fa2.set("exclusive"), (err) => {
      got = err ? String(err) : "ok";
    });
    c.sleep(500);
    expect(got).toBe("");
    c.task(b, fb.set("unlock"));
    c.run(() => got !== "");
    expect(got).toBe("ok");
    let stopped = "";
    spawn(fb.set("shared"), (err) => {
      stopped = err instanceof FsError ? err.code : "ok";
    });
    c.sleep(500);
    fb.interrupt();
    c.run(() => stopped !== "");
    expect(stopped).toBe("EINTR");
    c.task(a, fa2.set("unlock"));
    for (const [n, l] of [
      [a, fa],
      [a, fa2],
      [b, fb],
    ] as const)
      c.task(n, l.close());
    sound();
  });

  test("flock: who has it and asks once more keeps it, though others wait", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    lookup(b, "f");
    const [fa, fb] = [a, b].map((n) => new Flock(n.osb, n.osb.inodes.get(f))) as [Flock, Flock];
    c.task(a, fa.set("exclusive"));
    let got = false;
    spawn(fb.set("exclusive"), () => {
      got = true;
    });
    c.sleep(500);
    c.task(a, fa.set("exclusive"));
    c.task(a, fa.set("exclusive", true));
    c.sleep(500);
    expect(got).toBe(false);
    c.task(a, fa.set("unlock"));
    c.run(() => got);
    c.task(a, fa.close());
    c.task(b, fb.close());
    sound();
  });

  test("flock: whose wait a signal has ended is in nobody's way", () => {
    cluster();
    const [a, b, d] = [c.mount(1), c.mount(2), c.mount(3)];
    const f = create(a, "f");
    for (const n of [b, d]) lookup(n, "f");
    const [fa, fb, fd] = [a, b, d].map((n) => new Flock(n.osb, n.osb.inodes.get(f))) as [Flock, Flock, Flock];
    // Once before, so that what waits is a conversion.
    for (const first of [true, false]) {
      c.task(a, fa.set("shared"));
      let stopped = "";
      spawn(fb.set("exclusive"), (err) => {
        stopped = err instanceof FsError ? err.code : "ok";
      });
      c.sleep(500);
      fb.interrupt();
      c.run(() => stopped !== "");
      expect([first, stopped]).toEqual([first, "EINTR"]);
      c.task(d, fd.set("shared", true));
      c.task(b, fb.set("shared", true));
      for (const [n, l] of [
        [a, fa],
        [b, fb],
        [d, fd],
      ] as const)
        c.task(n, l.set("unlock"));
    }
    c.task(a, fa.close());
    c.task(b, fb.close());
    c.task(d, fd.close());
    sound();
  });

  /** Whether a truncation elsewhere waits for a direct write that is on its way to the disk. */
  const directWrite = (sabotage: Sabotage[]): boolean => {
    cluster({ sabotage });
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "x".repeat(65_536));
    c.task(
      a,
      wait<void>((cb) => fsync(a.osb, a.osb.inodes.get(f), false, cb)),
    );
    c.task(a, syncVolume(a.osb));
    lookup(b, "f");
    const addr = a.osb.arena.alloc(4096, 4096);
    let written = false;
    a.dev.holdNextWrite();
    writeFile(a.osb, a.osb.inodes.get(f), { offset: 0, len: 4096, addr, direct: true }, () => {
      written = true;
    });
    c.run(() => a.dev.held > 0);
    let truncated = false;
    setattr(b.osb, b.osb.inodes.get(f), { size: 0 }, () => {
      truncated = true;
    });
    c.sleep(3000);
    const waited = !truncated;
    a.dev.release();
    c.run(() => truncated && written);
    return waited;
  };

  test("a lock is kept until direct I/O under it has ended", () => {
    expect(directWrite([])).toBe(true);
    sound();
  });

  test("without that, the write lands in clusters that are somebody else's: the test notices", () => {
    expect(directWrite(["io_drain"])).toBe(false);
  });
});

describe("mounts and deaths", () => {
  test("slots: the first that is free, the preferred one, the one of before, none", () => {
    cluster();
    expect(c.mount(7).osb.slot_num).toBe(0);
    expect(c.mount(5, { preferred_slot: 3 }).osb.slot_num).toBe(3);
    const third = c.mount(9);
    expect(third.osb.slot_num).toBe(1);
    c.kill(third);
    c.mount(11);
    // The kernel's message: no free slots available.
    const four = c.mounted.length;
    expect(four).toBe(3);
    const again = c.mount(9);
    expect([1, 2]).toContain(again.osb.slot_num);
    expect(codeOf(() => c.mount(12))).toBe("EINVAL");
    expect(() => c.mount(12)).toThrow(
      /no free slot: all 4 are taken, by node 7, (9, 11|11, 9), 5: unmount one of them/,
    );
    c.umount(again);
    c.mount(12);
    sound();
  });

  test("nobody's journal is replayed while he lives", () => {
    cluster();
    const a = c.mount(1);
    create(a, "f");
    const b = c.mount(2);
    create(b, "g");
    const d = c.mount(3);
    expect([a, b, d].map((n) => n.osb.recovery!.recovered)).toEqual([0, 0, 0]);
    sound();
  });

  test("what was synced is there after its node's death, what the other changed since is not undone", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    const f = create(a, "f");
    write(a, f, "from a");
    c.task(
      a,
      wait<void>((cb) => fsync(a.osb, a.osb.inodes.get(f), false, cb)),
    );
    lookup(b, "f");
    write(b, f, "from b, longer than before");
    create(a, "g");
    c.task(a, syncVolume(a.osb));
    c.kill(a);
    expect(read(b, f)).toBe("from b, longer than before");
    expect(names(b, root(b)).sort()).toEqual(["f", "g"]);
    sound();
  });

  test("a node dies, and another while it recovers the first: the third does both", () => {
    for (let after = 0; after < 60; after += 12) {
      cluster({ seed: 3 + after });
      const [a, b, d] = [c.mount(1), c.mount(2), c.mount(3)];
      for (let i = 0; i < 5; i++) write(a, create(a, `a${i}`), "x".repeat(3000 * i));
      for (let i = 0; i < 5; i++) create(b, `b${i}`);
      c.task(a, syncVolume(a.osb));
      c.task(b, syncVolume(b.osb));
      write(a, create(a, "more"), "y".repeat(9000));
      c.kill(a);
      let left = after;
      c.run(() => left-- <= 0);
      c.kill(b);
      expect(names(d, root(d)).filter((n) => n !== "more").length).toBe(10);
      c.sleep(20_000);
      expect(d.osb.recovery!.busy).toBe(false);
      sound();
      c.dispose();
    }
  });

  test("the disk fails whoever recovers a dead node, for a while: then it is recovered, and all go on", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    for (let i = 0; i < 5; i++) write(a, create(a, `a${i}`), "x".repeat(3000));
    c.task(a, syncVolume(a.osb));
    c.task(b, wait(b.osb.journal.flush));
    b.dev.failing = true;
    c.kill(a);
    c.sleep(5000);
    expect([...b.osb.glue.recovery_map]).toEqual([1]);
    b.dev.failing = false;
    expect(names(b, root(b)).length).toBe(5);
    expect(b.osb.recovery!.recovered).toBe(1);
    sound();
  });

  /** Begins to close the volume, and nothing else; call the result for the end of it. */
  const startClose = (node: SimNode): { ended: boolean; gone(): void } => {
    const closing = {
      ended: false,
      gone() {
        c.run(() => closing.ended);
        node.mounted = false;
        node.alive = false;
        c.dlm.left(node.num);
        c.nodes.delete(node.num);
      },
    };
    spawn(closeVolume(node.osb), (err) => {
      if (err) c.failures.push(String(err));
      closing.ended = true;
    });
    return closing;
  };

  /** What the superblock of a slot's journal begins with. */
  const journalMagic = (node: SimNode, slot: number): Uint8Array => {
    const { osb } = node;
    const { p_blkno } = c.op(node, (op) => getBlocks(op, osb.sysfile(SYSTEM_INODE.JOURNAL, slot), 0));
    return c.disk.subarray(p_blkno * osb.geo.blocksize).subarray(0, 4);
  };

  /** At EX, until the result is released. */
  const hold = (node: SimNode, inode: Inode): LockSet => {
    const locks = new LockSet({ for_recovery: true });
    const res = node.osb.glue.metaLock(inode);
    c.task(node, wait(node.osb.step((op) => void op.osb.glue.lock(op.locks, res, EX), locks)));
    return locks;
  };
  /** No cluster is returned to the bitmap. */
  const holdBitmap = (node: SimNode): LockSet => hold(node, node.osb.sysfile(SYSTEM_INODE.GLOBAL_BITMAP));
  const holdJournal = (node: SimNode, slot: number): LockSet =>
    hold(node, node.osb.sysfile(SYSTEM_INODE.JOURNAL, slot));
  const holdSuper = (node: SimNode): LockSet => {
    const locks = new LockSet({ for_recovery: true });
    c.task(node, superLock(node.osb, locks));
    return locks;
  };

  test("who recovers a slot dies before its window is returned: its journal stays dirty, as whoever has it next must know", () => {
    cluster();
    const [a, b, k] = [c.mount(1), c.mount(2), c.mount(3)];
    const slot = b.osb.slot_num;
    write(b, create(b, "f"), "x".repeat(9000));
    c.task(b, syncVolume(b.osb));
    k.osb.glue.domain.onNodeDown = () => {};
    holdBitmap(k);
    c.kill(b);
    c.run(() => a.osb.recovery!.recovered === 1);
    c.kill(a);
    const flags = (type: SystemInode): { dirty: boolean; window: boolean } => {
      const inode = k.osb.sysfile(type, slot);
      inode.forget();
      return c.op(k, (op) => {
        const di = dinodeOf(op, readDinode(op, inode));
        return { dirty: (di.ij_flags & JOURNAL_FLAGS.DIRTY) !== 0, window: di.i_total > 0 };
      });
    };
    expect(flags(SYSTEM_INODE.LOCAL_ALLOC).window).toBe(true);
    expect(flags(SYSTEM_INODE.JOURNAL).dirty).toBe(true);
    c.kill(k);
    const back = c.mount(2);
    expect(names(back, root(back))).toEqual(["f"]);
    c.mount(4);
    c.sleep(5000);
    sound();
  });

  test("a node whose slot was cleaned up is back and dies before the slot is free: it is not freed with a journal to replay", () => {
    cluster();
    const [a, b, k] = [c.mount(1), c.mount(2), c.mount(3)];
    const slot = b.osb.slot_num;
    write(b, create(b, "f"), "x".repeat(9000));
    k.osb.glue.domain.onNodeDown = () => {};
    const bitmap = holdBitmap(k);
    c.kill(b);
    c.run(() => a.osb.recovery!.recovered === 1);
    // Node 3 does what node 2 does when it is back, up to its death.
    const mounting = holdSuper(k);
    bitmap.releaseAll();
    c.sleep(2000);
    const journal = new LockSet({ for_recovery: true });
    expect(c.task(k, tryLockJournal(k.osb, slot, journal))).toBe(true);
    c.task(k, journalToggleDirty(k.osb, slot, true, false));
    c.task(k, dropJournalLock(k.osb, slot, journal));
    mounting.releaseAll();
    c.sleep(2000);
    const seen = holdSuper(k);
    expect(c.op(k, (op) => slotNode(op, slot))).toBe(2);
    seen.releaseAll();
    expect(c.mount(2).osb.slot_num).toBe(slot);
    sound();
  });

  test("a mount that finds three dead nodes frees all their slots", () => {
    for (let seed = 1; seed < 25; seed++) {
      cluster({ seed, io_ms: 60 });
      const dead = [c.mount(1), c.mount(2), c.mount(3)];
      for (const n of dead) write(n, create(n, `of${n.num}`), "x".repeat(9000));
      for (const n of dead) c.kill(n);
      const d = c.mount(4);
      c.run(() => !d.osb.recovery!.busy);
      const locks = holdSuper(d);
      expect(
        dead.map((n) => c.op(d, (op) => slotNode(op, n.osb.slot_num))),
        `seed ${seed}`,
      ).toEqual([undefined, undefined, undefined]);
      locks.releaseAll();
      c.dispose();
    }
  });

  test("a node dies while another unmounts that has just recovered a third: the bitmap is not changed before its journal is replayed", () => {
    for (let after = 0; after < 60; after += 12) {
      cluster({ seed: 5 + after });
      const [a, b, d] = [c.mount(1), c.mount(2), c.mount(3)];
      write(d, create(d, "f"), "x".repeat(200_000));
      open(d, "f");
      c.op(d, (op) => ns.unlink(op, root(d), nameOf("f")));
      c.task(d, syncVolume(d.osb));
      const g = create(b, "g");
      b.osb.glue.domain.onNodeDown = () => {};
      const bitmap = holdBitmap(b);
      c.kill(d);
      c.run(() => a.osb.recovery!.recovered === 1);
      const closing = startClose(a);
      c.sleep(2000);
      expect(closing.ended).toBe(false);
      bitmap.releaseAll();
      c.run(() => allocState(a.osb).tl_clusters > 0);
      c.task(
        b,
        wait<void>((cb) => fallocate(b.osb, b.osb.inodes.get(g), 0, 0, 9_000_000, cb)),
      );
      c.task(b, wait(b.osb.journal.commitTid(b.osb.journal.running_tid)));
      let left = after;
      c.run(() => left-- <= 0 || closing.ended);
      c.kill(b);
      closing.gone();
      c.mount(4);
      c.sleep(5000);
      sound();
      c.dispose();
    }
  });

  test("a node that cannot recover another, whose journal is broken, can unmount, and who mounts when it was mended recovers that", () => {
    cluster();
    const [a, b, d] = [c.mount(1), c.mount(2), c.mount(3)];
    for (const n of [a, b, d]) {
      write(n, create(n, `of${n.num}`), "x".repeat(9000));
      c.task(n, syncVolume(n.osb));
    }
    const magic = journalMagic(b, a.osb.slot_num);
    magic.fill(0);
    // What node 3 had set aside is not returned before node 1 is recovered.
    c.kill(d);
    c.kill(a);
    c.sleep(10_000);
    expect([...b.osb.glue.recovery_map]).toEqual([1]);
    // It may try for days.
    const { free_bytes } = b.osb.arena as Arena;
    c.sleep(120_000);
    expect((b.osb.arena as Arena).free_bytes).toBe(free_bytes);
    // Who asks for a lock waits until it unmounts.
    let answer = "none";
    b.osb.exec(
      (op) => ns.lookup(op, root(b), nameOf("of1")),
      (err) => {
        answer = err instanceof FsError ? err.code : String(err);
      },
    );
    // An orphan scan, too.
    for (let i = 0; i < 3; i++) c.sleep(ORPHAN_SCAN_MS + 10_000);
    expect(answer).toBe("none");
    startClose(b).gone();
    expect(answer).toBe("EIO");
    magic.set([0xc0, 0x3b, 0x39, 0x98]);
    const e = c.mount(4);
    expect(names(e, root(e)).sort()).toEqual(["of1", "of2", "of3"]);
    c.sleep(5000);
    sound();
  });

  test("a node dies while another, which has just joined, reads the superblock: that one waits for its recovery, too", () => {
    cluster({ io_ms: 400 });
    const [a, b] = [c.mount(1), c.mount(2)];
    create(a, "f");
    c.task(a, syncVolume(a.osb));
    let mounted = false;
    let waits = false;
    const node = c.startMount(3, {}, (err) => {
      if (err) c.failures.push(String(err));
      mounted = true;
    });
    c.run(() => node.domain !== null);
    c.kill(a);
    c.run(() => {
      waits ||= node.osb?.glue?.recovery_map.has(1) === true;
      return mounted;
    });
    expect(waits).toBe(true);
    expect(names(node, root(node))).toEqual(["f"]);
    expect(names(b, root(b))).toEqual(["f"]);
    sound();
  });

  test("a node dies that has just made the volume larger: its journal is replayed, also where it goes behind the end as others know it", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    write(b, create(b, "f"), "x".repeat(9000));
    c.task(b, syncVolume(b.osb));
    const { clusters } = a.osb.geo;
    const map = c.op(a, (op) => getBlocks(op, a.osb.sysfile(SYSTEM_INODE.SLOT_MAP), 0));
    // The system files end there, and what node 2 has made lies behind them.
    a.osb.geo.clusters = a.osb.blocksToClusters(map.p_blkno + map.blocks);
    c.kill(b);
    c.run(() => a.osb.recovery!.recovered === 1);
    a.osb.geo.clusters = clusters;
    expect(names(a, root(a))).toEqual(["f"]);
    sound();
  });

  test("who recovers a slot dies with the return of its window in its journal: it is not returned a second time", () => {
    let died = 0;
    for (let seed = 1; seed < 13; seed++) {
      cluster({ seed, lock_ms: 300 });
      const [a, b, x] = [c.mount(1), c.mount(2), c.mount(3)];
      write(b, create(b, "f"), "x".repeat(9000));
      c.task(b, syncVolume(b.osb));
      write(x, create(x, "g"), "x".repeat(9000));
      holdBitmap(x).releaseAll();
      c.task(x, syncVolume(x.osb));
      c.kill(b);
      c.run(() => x.osb.recovery!.recovered + a.osb.recovery!.recovered > 0);
      const { commits } = x.osb.journal;
      if (x.osb.recovery!.recovered > 0) {
        c.run(() => x.osb.journal.commits > commits);
        died += a.osb.recovery!.busy ? 1 : 0;
      }
      c.kill(x);
      expect(names(a, root(a)).sort()).toEqual(["f", "g"]);
      c.run(() => !a.osb.recovery!.busy);
      const locks = holdSuper(a);
      expect(c.op(a, freeSlots).length, `seed ${seed}`).toBe(3);
      locks.releaseAll();
      sound();
      c.dispose();
    }
    expect(died).toBeGreaterThan(0);
  });

  test("a node dies while another mounts, and a third is faster: the one that mounts holds nobody up while it waits for that", () => {
    for (const seed of [7, 8, 17, 27]) {
      cluster({ seed, lock_ms: 1 + (seed % 5) * 20 });
      const [z, b, n] = [c.mount(1), c.mount(2), c.mount(3)];
      write(n, create(n, "f"), "x".repeat(9000));
      c.task(n, syncVolume(n.osb));
      // An operation of node 2 has the bitmap when that hears of the death, late, and waits for the recovery with it.
      const bitmap = holdBitmap(b);
      const heard = b.osb.glue.domain.onNodeDown;
      b.osb.glue.domain.onNodeDown = (num) => void c.clock.after(200 + c.below(400), () => heard(num));
      let mounted = false;
      const a = c.startMount(4, {}, (err) => {
        if (err) c.failures.push(String(err));
        mounted = true;
      });
      c.run(() => a.domain !== null);
      let left = c.below(40);
      c.run(() => left-- <= 0);
      c.kill(n);
      const died_ms = c.clock.monotonic_ms();
      c.run(() => b.osb.glue.recovery_map.size > 0);
      c.run(() => b.osb.glue.recovery_map.size === 0);
      bitmap.releaseAll();
      c.run(() => mounted && [a, b, z].every((x) => !x.osb.recovery!.busy && x.osb.glue.recovery_map.size === 0));
      expect(c.clock.monotonic_ms() - died_ms, `seed ${seed}`).toBeLessThan(30_000);
      expect(names(a, root(a))).toEqual(["f"]);
      c.sleep(10_000);
      sound();
      c.dispose();
    }
  });

  test("a mount that replays one dead node's journal and cannot read the next one's leaves no lock behind", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    for (const n of [a, b]) {
      create(n, `of${n.num}`);
      c.task(n, syncVolume(n.osb));
    }
    const magic = journalMagic(b, b.osb.slot_num);
    c.kill(a);
    c.kill(b);
    magic.fill(0);
    expect(codeOf(() => c.mount(3))).toBe("EIO");
    magic.set([0xc0, 0x3b, 0x39, 0x98]);
    const d = c.mount(4);
    expect(names(d, root(d)).sort()).toEqual(["of1", "of2"]);
    sound();
  });

  test("the disk fails a mount in the midst: it ends with that, and leaves no lock behind", () => {
    let failed = 0;
    for (let after = 0; after < 16; after++) {
      cluster({ seed: 9 });
      let ended = false;
      let failure: unknown = null;
      const node = c.startMount(1, {}, (err) => {
        failure = err;
        ended = true;
      });
      c.run(() => node.dev.writes >= after || ended);
      node.dev.failing = true;
      c.run(() => ended);
      if (failure !== null) {
        failed++;
        expect(failure).toBeInstanceOf(FsError);
      } else c.kill(node);
      const b = c.mount(2);
      create(b, "f");
      sound();
      c.dispose();
    }
    expect(failed).toBeGreaterThan(2);
  });

  test("a node that comes back at once waits until its slot was cleaned up, or takes it over", () => {
    cluster();
    const [a, b] = [c.mount(1), c.mount(2)];
    for (let i = 0; i < 5; i++) write(a, create(a, `a${i}`), "x".repeat(3000));
    c.kill(a);
    const again = c.mount(1);
    expect(again.osb.slot_num).toBe(0);
    create(again, "back");
    expect(lookup(b, "back")).toBeDefined();
    sound();
  });

  test("a kernel node that comes back holds the super lock while it waits for its journal: who cleans its slot up lets it", () => {
    cluster();
    const [a, b, k] = [c.mount(1), c.mount(2), c.mount(3)];
    const slot = b.osb.slot_num;
    write(b, create(b, "f"), "x".repeat(9000));
    // Node 3 is the kernel's: it leaves the recovery to node 1, which cannot return clusters for now.
    k.osb.glue.domain.onNodeDown = () => {};
    const bitmap = holdBitmap(k);
    c.kill(b);
    c.run(() => a.osb.recovery!.recovered === 1);
    const mounting = holdSuper(k);
    bitmap.releaseAll();
    const journal = holdJournal(k, slot);
    c.task(k, dropJournalLock(k.osb, slot, journal));
    mounting.releaseAll();
    c.sleep(1000);
    expect(c.op(k, (op) => slotNode(op, slot))).toBe(undefined);
    sound();
  });

  test("such a node, and another dies meanwhile, whose recovery needs the super lock: the journal's lock is let go", () => {
    cluster();
    const [a, b, k, y] = [c.mount(1), c.mount(2), c.mount(3), c.mount(5)];
    const slot = b.osb.slot_num;
    for (const n of [b, y]) {
      write(n, create(n, `of${n.num}`), "x".repeat(9000));
      c.task(n, syncVolume(n.osb));
    }
    k.osb.glue.domain.onNodeDown = () => {};
    const bitmap = holdBitmap(k);
    c.kill(b);
    c.run(() => a.osb.recovery!.recovered + y.osb.recovery!.recovered === 1);
    const [recovers, dies] = a.osb.recovery!.recovered === 1 ? [a, y] : [y, a];
    const mounting = holdSuper(k);
    c.kill(dies);
    c.run(() => recovers.osb.glue.recovery_map.size === 1);
    bitmap.releaseAll();
    const journal = holdJournal(k, slot);
    c.task(k, dropJournalLock(k.osb, slot, journal));
    mounting.releaseAll();
    c.run(() => recovers.osb.glue.recovery_map.size === 0 && !recovers.osb.recovery!.busy);
    expect(c.mount(2).osb.slot_num).toBe(slot);
    expect(names(k, root(k)).sort()).toEqual(["of2", "of5"]);
    sound();
  });

  test.each([
    ["nobody else: the next that mounts writable does the rest", false],
    ["another that may write: it does the rest", true],
  ])(
    "a node that is mounted read-only replays a dead one's journal, and leaves what must be changed to %s",
    (_, third) => {
      cluster();
      const ro = c.mount(2, { ro: true });
      const a = c.mount(1);
      const d = third ? c.mount(3) : undefined;
      const f = create(a, "f");
      write(a, f, "synced");
      c.task(
        a,
        wait<void>((cb) => fsync(a.osb, a.osb.inodes.get(f), false, cb)),
      );
      const gone = create(a, "gone");
      write(a, gone, "of nobody".repeat(1000));
      open(a, "gone");
      c.op(a, (op) => ns.unlink(op, root(a), nameOf("gone")));
      c.task(a, wait(a.osb.journal.flush));
      const said = logged(() => {
        c.kill(a);
        expect(read(ro, f)).toBe("synced");
        c.sleep(30_000);
      });
      expect(said.filter((line) => line.includes("ERROR"))).toEqual([]);
      const writer = d ?? c.mount(3);
      c.sleep(30_000);
      expect(c.op(writer, freeSlots).length).toBe(writer.osb.geo.max_slots - 2);
      expect(codeOf(() => c.op(writer, (op) => ns.getattr(op, gone)))).toBe("ESTALE");
      sound();
    },
  );

  test("read-only beside others, and alone", () => {
    cluster();
    const a = c.mount(1);
    const b = c.mount(2, { ro: true });
    const f = create(a, "f");
    write(a, f, "seen");
    expect(lookup(b, "f")!.ino).toBe(f);
    expect(read(b, f)).toBe("seen");
    expect(codeOf(() => create(b, "no"))).toBe("EROFS");
    c.kill(a);
    expect(read(b, f)).toMatch(/^(seen|)$/);
    c.umount(b);
    const alone = c.mount(3, { nocluster: true });
    expect(alone.osb.glue.domain.clustered).toBe(false);
    create(alone, "alone");
    sound();
  });
});
