/**
 * The rules of coherence that break when two nodes do something in the same moment (docs/LOCKING.md lists them): races, each for some seconds, on real mounts of
 * two nodes of ours; and what FUSE does not give, shown on them. A rule that is broken shows as a race that never ends, or as something seen that was not.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { repoRoot } from "../support/rig.ts";
import { runAsync } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";
import { sharedMapping } from "./together.ts";

const RACES = join(repoRoot, "test/support/races.py");
const SECONDS = Number(process.env["OCFS2_RACE_SECONDS"] ?? 3);

describe.skipIf(clusterUnavailable() !== undefined)("two nodes at the same moment", () => {
  const image = clusterUnavailable() === undefined ? clusterImage(256) : "";
  let rig: ClusterRig;
  let members: OurMember[];

  beforeAll(async () => {
    rig = new ClusterRig(image, [11, 12]);
    members = [11, 12].map((n) => new OurMember(rig, n));
    await Promise.all(members.map((m) => m.mount()));
  }, 60_000);

  afterAll(async () => {
    await Promise.all(members.map((m) => m.unmount()));
    const judged = fsck(image);
    expect(judged.findings, judged.output).toEqual([]);
    rig.close();
  }, 60_000);

  test.each([
    ["pages that another node has written are never read again, by read or by mapping", "invalidated_reads"],
    ["parts of a page, written by both while it is not uptodate", "partial_writes"],
    ["a page that the kernel has dropped, unknown to its node, before a part of it is written", "dropped_pages"],
    ["counters in pages that both have mapped", "mapped_counters"],
    ["a size that changes while dirty pages of a mapping are called back", "size_during_writeback"],
    ["a hundred direct writes in flight that wait for a lock, on both", "parked_aios"],
    ["two rm of the same names in one directory", "two_rm"],
    ["files that are taken away in the moment in which they are made", "fresh_inodes"],
    ["two users who make one file", "users_create"],
  ])(
    "%s",
    async (_, race) => {
      await members[0]!.run(`mkdir $D/${race}`);
      const sides = members.map((m, side) =>
        runAsync(
          ["timeout", "-k", "1", "60", "python3", RACES, race, join(m.dir, race), String(side), String(SECONDS)],
          {
            timeout_ms: 90_000,
          },
        ),
      );
      for (const ran of await Promise.all(sides)) expect(ran).toMatchObject({ status: 0, stderr: "" });
      await members[1]!.run(`rm -rf $D/${race}`);
    },
    120_000,
  );

  test("pages that are mapped through a descriptor with O_DIRECT: what one writes to its memory the other finds in its own", async () => {
    await sharedMapping(members[0]!, members[1]!, "os.O_DIRECT");
  }, 120_000);

  /** A program on a node and one of its files: it has done what is `before` when this returns, and does what is `after` once it is told to go. */
  async function twoSteps(member: OurMember, file: string, before: string, after: string) {
    const program = join(tempDir("ocfs2-rules"), "steps.py");
    writeFileSync(program, `import sys\n${before}\nprint("ready", flush=True)\nsys.stdin.readline()\n${after}\n`);
    const child = spawn("python3", [program, join(member.dir, file)], { stdio: ["pipe", "pipe", "inherit"] });
    let stdout = "";
    child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
    const status = new Promise<number>((ok) =>
      child.once("close", (code, signal) => ok(code ?? constants.signals[signal!])),
    );
    await expect.poll(() => stdout, { timeout: 20_000 }).toBe("ready\n");
    return { status, said: () => stdout.slice("ready\n".length), go: () => void child.stdin.end("go\n") };
  }

  /** On the second node: maps two pages of a file, makes it as long as `size`, waits for the first node to `change` it, and looks. */
  async function whileMapped(size: number, change: string, look: string): Promise<{ status: number; stdout: string }> {
    const [a, b] = members as [OurMember, OurMember];
    await a.run("rm -f $D/m; head -c 8192 /dev/zero | tr '\\0' x >$D/m");
    const looker = await twoSteps(
      b,
      "m",
      `import mmap, os
f = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(f, 8192, mmap.MAP_SHARED, mmap.PROT_READ)
m[0]
os.ftruncate(f, ${size})`,
      look,
    );
    await a.run(change);
    looker.go();
    return { status: await looker.status, stdout: looker.said() };
  }
  const { SIGBUS } = constants.signals;

  test("what a write(2) of whole pages has filled is read on its node while it waits for the other one", async () => {
    const [a, b] = members as [OurMember, OurMember];
    await a.run("head -c 4096 /dev/zero | tr '\\0' o >$D/w");
    const writer = await twoSteps(
      a,
      "w",
      `import ctypes, mmap, os, threading, time
f, g = os.open(sys.argv[1], os.O_RDWR), os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
page = ctypes.c_void_p(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, g, 0))
cached = ctypes.c_ubyte(0)
# The kernel asks for security.capability in the first write after it has heard of the attributes, before it fills a page.
os.pwrite(f, b"o" * 4096, 0)`,
      `writer = threading.Thread(target=lambda: os.pwrite(f, b"n" * 4096, 0))
writer.start()
# A read that comes before would ask for the page, and hold it.
while cached.value == 0:
    time.sleep(0.01)
    assert libc.mincore(page, 4096, ctypes.byref(cached)) == 0
print(os.pread(g, 1, 0), writer.is_alive(), flush=True)
writer.join()`,
    );
    await b.run("printf b | dd of=$D/w conv=notrunc status=none");
    b.signal("SIGSTOP");
    try {
      writer.go();
      await expect.poll(writer.said, { timeout: 5000 }).toBe("b'n' True\n");
    } finally {
      b.signal("SIGCONT");
    }
    expect(await writer.status).toBe(0);
    expect(await b.run("head -c 2 $D/w")).toBe("nn");
  }, 60_000);

  const ALL_BEHIND = ["oobbaa", "oobbaa", "oobbaa"];
  /** The first node writes "aa" to a file of which it has a page and knows two bytes; the second node has made them four. What the writer reads then, and either node. */
  async function appended(write: string): Promise<string[]> {
    const [a, b] = members as [OurMember, OurMember];
    await a.run("rm -f $D/e; printf oo >$D/e");
    const writer = await twoSteps(
      a,
      "e",
      `import fcntl, os, time
f = os.open(sys.argv[1], os.O_RDWR)
os.fstat(f)`,
      `os.pread(f, 1, 0)
${write}
end = time.monotonic() + 2
while (read := os.pread(f, 10, 0)) != b"oobbaa" and time.monotonic() < end:
    time.sleep(0.001)
print(read.decode())`,
    );
    await b.run("printf bb >>$D/e");
    writer.go();
    expect(await writer.status).toBe(0);
    return [writer.said().trimEnd(), await a.run("cat $D/e"), await b.run("cat $D/e")];
  }

  test("O_APPEND that fcntl(2) has set on an open file: behind what another node has appended", async () => {
    expect(await appended("fcntl.fcntl(f, fcntl.F_SETFL, os.O_APPEND); os.write(f, b'aa')")).toEqual(ALL_BEHIND);
  }, 60_000);

  test("RWF_APPEND: to the end that this node last heard of, over what another node has appended", async () => {
    const stale = "os.pwritev(f, [b'aa'], 0, os.RWF_APPEND); sys.exit()";
    expect(await appended(stale)).toEqual(["", "ooaa", "ooaa"]);
    expect(await appended("os.fstat(f); os.pwritev(f, [b'aa'], 0, os.RWF_APPEND)")).toEqual(ALL_BEHIND);
  }, 60_000);

  test("behind the old end of a mapped file that another node made longer: SIGBUS, until a request tells the new size", async () => {
    const grow = "head -c 4096 /dev/zero | tr '\\0' y >>$D/m";
    expect((await whileMapped(4096, grow, "print(chr(m[5000]))")).status).toBe(SIGBUS);
    expect(await whileMapped(4096, grow, "os.fstat(f); print(chr(m[5000]))")).toEqual({ status: 0, stdout: "y\n" });
  }, 60_000);

  test("behind the new end of a mapped file that another node made shorter: SIGBUS, and zeros on its last page, as on one node", async () => {
    const shrink = "truncate -s 4000 $D/m";
    expect((await whileMapped(8192, shrink, "print(m[5000])")).status).toBe(SIGBUS);
    expect(await whileMapped(8192, shrink, "print(chr(m[3999]), m[4000])")).toEqual({ status: 0, stdout: "x 0\n" });
  }, 60_000);
});
