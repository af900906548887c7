/** Mount options of clustered volumes, on two nodes of ours: slots, read-only mounts, the local alloc, and direct writes from both at once. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { atExit, tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { mountPoint, ocfs2 } from "../support/mount.ts";
import { runAsync, sh, trySh } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

interface MountStatus {
  readonly slot: number;
  readonly readonly_reason: string | null;
  readonly localalloc_clusters: number;
}

const mountOf = async (m: OurMember): Promise<MountStatus> => (await m.status()).mounts[0] as unknown as MountStatus;

/** Holds both locks of a file while a path is there, or tries for both. */
const LOCKS = `
import fcntl, os, sys, time
f = open(sys.argv[1], "r+b")
def take(lock, what):
    try:
        lock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return what + " granted"
    except BlockingIOError:
        return what + " refused"
print(", ".join([take(fcntl.lockf, "fcntl"), take(fcntl.flock, "flock")]))
if sys.argv[2] == "hold":
    open(sys.argv[3], "w").close()
    while os.path.exists(sys.argv[3]):
        time.sleep(0.1)
`;

/** 4 KiB blocks of one parity, direct and in place, so many; each says who wrote it last and how often he had. */
const DIRECT = `
import mmap, os, sys
path, which, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
f = os.open(path, os.O_RDWR | os.O_DIRECT)
blocks = os.fstat(f).st_size // 4096
page = mmap.mmap(-1, 4096)
for n in range(count):
    page[:16] = b"%d-%014d" % (which, n)
    assert os.pwrite(f, page, (2 * n + which) % blocks * 4096) == 4096
`;

/** What is in each block of a file, read directly: its writer and how often that one had written. */
const LOOK = `
import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
for b in range(os.fstat(f).st_size // 4096):
    assert os.preadv(f, [page], b * 4096) == 4096
    print(page[:16].decode())
`;

describe.skipIf(clusterUnavailable() !== undefined)("mount options on a cluster", () => {
  test("slots that are asked for; read-only beside a writer; remounts; the local alloc's window", async () => {
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await a.mount("preferred_slot=3,localalloc=1");
    await b.mount("preferred_slot=3,localalloc=0");
    expect(await mountOf(a)).toMatchObject({ slot: 3, localalloc_clusters: 256 });
    // It is taken: another one.
    expect(await mountOf(b)).toMatchObject({ slot: 0, localalloc_clusters: 0 });
    for (const m of [a, b]) await m.run("head -c 3000000 /dev/urandom >$D/$(basename $D); sync $D/$(basename $D)");
    await b.unmount();

    await b.mount("ro");
    expect(await mountOf(b)).toMatchObject({ slot: 0, readonly_reason: "mounted read-only" });
    await a.run("echo one >$D/x");
    expect(await b.run("cat $D/x")).toBe("one\n");
    await a.run("echo two >$D/x; mkdir $D/d");
    expect(await b.run("cat $D/x; ls -d $D/d >/dev/null && echo there")).toBe("two\nthere\n");
    for (const change of ["echo x >$D/x", "rm $D/x", "touch $D/y", "chmod 1 $D/x"])
      await expect(b.run(change)).rejects.toThrow(/Read-only file system/);
    const remount = (m: OurMember, how: string) =>
      runAsync([process.execPath, ocfs2, "mount", "-o", `remount,${how}`, image, m.dir]);
    expect(await remount(b, "rw")).toMatchObject({
      status: 32,
      stderr: `ocfs2 mount: ${b.dir} is read-only from its mount on (mounted read-only): unmount it and mount it anew\n`,
    });
    expect((await remount(a, "ro")).stderr).toBe("");
    await expect(a.run("touch $D/y")).rejects.toThrow(/Read-only file system/);
    expect((await remount(a, "rw")).stderr).toBe("");
    await a.run("touch $D/y");
    expect(await b.run("ls $D/y | wc -l")).toBe("1\n");
    await Promise.all([a.unmount(), b.unmount()]);
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 180_000);

  test("a device that cannot be written to: without the cluster, and only read-only", async () => {
    const image = clusterImage(64);
    const rig = new ClusterRig(image, [11]);
    const a = new OurMember(rig, 11);
    await a.mount();
    await a.run("echo kept >$D/x");
    await a.unmount();
    const loop = sh(["losetup", "-r", "-f", "--show", image]).trim();
    atExit(() => trySh(["losetup", "-d", loop]));
    const dir = mountPoint();
    const o = `node=${a.name},config=${rig.conf}`;
    const mount = (options: string) => runAsync([process.execPath, ocfs2, "mount", "-o", options, loop, dir]);
    expect(await mount(o)).toMatchObject({
      status: 32,
      stderr: `ocfs2 mount: ${loop} is read-only: make it writable, or mount with -o ro, without the cluster: what other nodes change is not seen then\n`,
    });
    expect(await mount(`ro,${o}`)).toMatchObject({
      status: 0,
      stderr: `ocfs2 mount: ${loop} is read-only, so it is mounted without its cluster: what other nodes change is seen late, in part or not at all\n`,
    });
    const look = await runAsync(["bash", "-c", `cat ${dir}/x; touch ${dir}/y`]);
    expect(look).toMatchObject({ stdout: "kept\n", stderr: expect.stringMatching(/Read-only file system/) });
    sh([process.execPath, ocfs2, "umount", dir]);
    rig.close();
  }, 60_000);

  test("fcntl locks hold on their own node, flock on all; with localflocks flock does not either", async () => {
    const image = clusterImage(64);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount(), b.mount()]);
    const work = tempDir("ocfs2-locks");
    const locks = join(work, "locks.py");
    writeFileSync(locks, LOCKS);
    const held = join(work, "held");
    await a.run("touch $D/f");
    const holder = a.run(`python3 ${locks} $D/f hold ${held}`);
    await a.run(`until [ -e ${held} ]; do sleep 0.1; done`);
    expect(await a.run(`python3 ${locks} $D/f try`)).toBe("fcntl refused, flock refused\n");
    expect(await b.run(`python3 ${locks} $D/f try`)).toBe("fcntl granted, flock refused\n");
    await b.unmount();
    await b.mount("localflocks");
    expect(await b.run(`python3 ${locks} $D/f try`)).toBe("fcntl granted, flock granted\n");
    await a.run(`rm ${held}`);
    await holder;
    await Promise.all([a.unmount(), b.unmount()]);
    rig.close();
  }, 120_000);

  for (const coherency of ["buffered", "full"])
    test(`direct writes of both nodes to one file, coherency=${coherency}`, async () => {
      const image = clusterImage(128);
      const rig = new ClusterRig(image, [11, 12]);
      const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
      await Promise.all([a.mount(`coherency=${coherency}`), b.mount(`coherency=${coherency}`)]);
      const work = tempDir("ocfs2-direct");
      writeFileSync(join(work, "direct.py"), DIRECT);
      writeFileSync(join(work, "look.py"), LOOK);
      const blocks = 512;
      await a.run(`dd if=/dev/zero of=$D/f bs=4096 count=${blocks} conv=fsync status=none`);
      const exGets = async (m: OurMember): Promise<number> => {
        const inode = Number(await m.run("stat -c %i $D/f"));
        const name = `M${inode.toString(16).padStart(22, "0")}00000000`;
        const argv = [ocfs2, "debugfs", "--node", m.name, "--json", "-R", `fs_locks ${name}`, image];
        const ran = await runAsync([process.execPath, ...argv]);
        return (JSON.parse(ran.stdout) as { ex: { gets: number } }[])[0]!.ex.gets;
      };
      const both = (count: number) =>
        Promise.all([a, b].map((m, i) => m.run(`python3 ${work}/direct.py $D/f ${i} ${count}`)));
      const look = (m: OurMember) => m.run(`python3 ${work}/look.py $D/f`);
      // Caches warm, and each has written.
      await both(10);
      await Promise.all([look(a), look(b)]);
      const before = [await exGets(a), await exGets(b)];
      const count = coherency === "buffered" ? 2000 : 60;
      await both(count);
      const after = [await exGets(a), await exGets(b)];
      const [seen_a, seen_b] = [await look(a), await look(b)];
      expect(seen_b).toBe(seen_a);
      const lines = seen_a.trimEnd().split("\n");
      // The last write of each block, by its writer's own count.
      const rounds = blocks / 2;
      for (let n = Math.max(0, count - rounds); n < count; n++)
        for (const which of [0, 1])
          expect(lines[(2 * n + which) % blocks]).toBe(`${which}-${String(n).padStart(14, "0")}`);
      for (const i of [0, 1]) {
        const taken = after[i]! - before[i]!;
        // Opening the file for writing takes it at EX, and so do writes while the other one has not begun. Those of both at once do not; or all do.
        if (coherency === "buffered") expect(taken).toBeLessThan(count / 4);
        else expect(taken).toBeGreaterThanOrEqual(count);
      }
      await Promise.all([a.unmount(), b.unmount()]);
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    }, 120_000);
});
