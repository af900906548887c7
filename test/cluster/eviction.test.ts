/** A node keeps as many inodes, and their cluster locks, as it was told to (coherence, rule 15): what was used least goes, at its masters too. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { describe, expect, test } from "vitest";
import { atExit } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const BOUND = 200;
const DIRS = 3;
const FILES = 400;
/** Open, meta and rw of each inode; and those of the volume and its system files. */
const MOST_LOCKS = 3 * BOUND + 40;
const GONE_MS = 60_000;

/** Holds a file open, a mapping of another one and a folder, and says what it sees in them whenever it is asked. */
const HOLDER = `
import mmap, os, sys
d = sys.argv[1]
fd = os.open(d + "/d0/open", os.O_RDWR)
mfd = os.open(d + "/d0/mapped", os.O_RDWR)
m = mmap.mmap(mfd, 4096)
os.close(mfd)
os.chdir(d + "/d1")
m[0:4] = b"one."
print("ready", flush=True)
sys.stdin.readline()
os.pwrite(fd, b"written after", 0)
m[4:8] = b"two."
m.flush()
print(os.getcwd() == os.path.realpath(d + "/d1"), os.path.exists("f0"), os.pread(fd, 13, 0).decode(), m[0:8].decode(), flush=True)
`;

interface Held {
  readonly inodes: number;
  readonly locks: number;
  readonly evicted: number;
  readonly notifications: number;
}

async function held(member: OurMember): Promise<Held> {
  return (await member.status()).mounts[0] as unknown as Held;
}

/** Looks until `true_now` says yes, and gives up with what it saw last. */
async function until<T>(look: () => Promise<T>, true_now: (seen: T) => boolean): Promise<T> {
  const since = performance.now();
  for (;;) {
    const seen = await look();
    if (true_now(seen) || performance.now() - since > GONE_MS) return seen;
    await new Promise((ok) => setTimeout(ok, 200));
  }
}

/** Lock resources that `master` knows of, with a reference of `node`. */
async function referencesOf(master: OurMember, node: number): Promise<number> {
  const text = await master.state("dlm_locks");
  return [...text.matchAll(/^RMAP:(.*)$/gm)].filter((m) => m[1]!.split(" ").includes(String(node))).length;
}

describe.skipIf(clusterUnavailable() !== undefined)("more files than a node may keep", () => {
  // An older kernel's, too, on a long run.
  for (const options of long ? ["", "fuse_minor=44"] : [""])
    test(`find over all, ${options === "" ? "a kernel that drops names by inode" : options}`, async () => {
      const image = clusterImage(256);
      const rig = new ClusterRig(image, [11, 12]);
      const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
      await b.mount();
      // It makes them, so it masters all their locks.
      for (let d = 0; d < DIRS; d++) await b.run(`mkdir $D/d${d} && cd $D/d${d} && touch $(seq -f f%g 0 ${FILES - 1})`);
      await b.run("head -c 4096 /dev/zero > $D/d0/mapped; echo as it was before > $D/d0/open");
      await a.mount([`cached_inodes=${BOUND}`, options].filter((o) => o !== "").join(","));
      const holder = spawn("python3", ["-c", HOLDER, a.dir], { stdio: ["pipe", "pipe", "inherit"] });
      const forget = atExit(() => holder.kill("SIGKILL"));
      const said = createInterface(holder.stdout)[Symbol.asyncIterator]();
      expect((await said.next()).value).toBe("ready");

      const find = "find $D -type f -size -100 | wc -l";
      for (let round = 0; round < 2; round++) expect(Number(await a.run(find))).toBe(DIRS * FILES + 2);
      const after = await until(
        () => held(a),
        (h) => h.inodes <= BOUND,
      );
      expect(after.inodes).toBeLessThanOrEqual(BOUND);
      expect(after.locks).toBeLessThanOrEqual(MOST_LOCKS);
      expect(after.evicted).toBeGreaterThan(DIRS * FILES - BOUND);
      // Its masters have forgotten it, too: a resource is purged 8 s after it was last used.
      const references = await until(
        () => referencesOf(b, 11),
        (n) => n <= MOST_LOCKS,
      );
      expect(references).toBeLessThanOrEqual(MOST_LOCKS);

      // What is in use stayed, and is what it was.
      const open_ino = Number(await a.run("stat -c %i $D/d0/open"));
      const name = `M000000${open_ino.toString(16).padStart(16, "0")}`;
      expect(await a.state("fs_locks")).toContain(name);
      holder.stdin.end("go\n");
      expect((await said.next()).value).toBe("True True written after one.two.");
      expect((await said.next()).done).toBe(true);
      forget();
      expect(await b.run("head -c 13 $D/d0/open; head -c 8 $D/d0/mapped")).toBe("written afterone.two.");
      // What went is asked for anew, and is what the other has made of it.
      await b.run("cd $D/d2 && for i in $(seq 0 49); do echo $i > f$i; done; rm f50; mv f51 g51");
      expect(await a.run("cd $D/d2 && for i in $(seq 0 49); do cat f$i; done")).toBe(await b.run("seq 0 49"));
      expect((await a.run("ls $D/d2")).split("\n").filter((name) => /^(f50|[fg]51)$/.test(name))).toEqual(["g51"]);
      await Promise.all([a.unmount(), b.unmount()]);
      const judged = fsck(image);
      expect(judged.findings, judged.output).toEqual([]);
      rig.close();
    }, 300_000);
});
