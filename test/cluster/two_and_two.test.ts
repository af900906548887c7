/**
 * Two kernel nodes and two of ours on one volume. Minutes, so with OCFS2_LONG=1 only; mixed.test.ts is the short one.
 * OCFS2_LOAD_SECONDS: how long the last test works (120).
 */
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsck } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { hostManifest, kernelManifest, repoRoot } from "../support/rig.ts";
import { sh } from "../support/sh.ts";
import { CASES, coherence } from "./coherence.ts";
import { MORE_CASES } from "./coherence_more.ts";
import { OF_A_LEAVE, OF_A_RACE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { life } from "./life.ts";
import { countersOf, Load, lost } from "./load.ts";
import { KernelMember, type Member, OurMember } from "./members.ts";
import { together } from "./together.ts";

const KERNELS = [1, 2];
const OURS = [11, 12];

interface Cluster {
  readonly rig: ClusterRig;
  readonly image: string;
  readonly k: KernelMember[];
  readonly o: OurMember[];
  readonly all: Member[];
}

const mount = (m: Member): Promise<void> => (m instanceof KernelMember ? m.node.mount() : (m as OurMember).mount());
const unmount = (m: Member): Promise<void> =>
  m instanceof KernelMember ? m.node.unmount() : (m as OurMember).unmount();

async function cluster(mib: number): Promise<Cluster> {
  const image = clusterImage(mib);
  const rig = new ClusterRig(image, [...KERNELS, ...OURS]);
  const k: KernelMember[] = [];
  for (const n of KERNELS) k.push(new KernelMember(rig.nameOf(n), await rig.kernel(n)));
  const o = OURS.map((n) => new OurMember(rig, n));
  // Each kind comes to a volume that the other kind has mounted.
  for (const m of [o[0]!, k[0]!, o[1]!, k[1]!]) await mount(m);
  return { rig, image, k, o, all: [...k, ...o] };
}

/** All leave; no kernel node has replayed a journal or complained of anything but that and `expected`, and the volume is whole. */
async function end(c: Cluster, ...expected: RegExp[]): Promise<void> {
  for (const m of c.all) await unmount(m);
  for (const { node } of c.k) {
    expect(node.console()).not.toMatch(/replay journal|Recovering node/i);
    expect(node.complaints().filter((line) => ![OF_A_LEAVE, ...expected].some((kind) => kind.test(line)))).toEqual([]);
    node.kill();
  }
  const judged = fsck(c.image);
  expect(judged.findings, judged.output).toEqual([]);
  c.rig.close();
}

describe.skipIf(clusterUnavailable() !== undefined || !long)("two kernel nodes and two of ours", () => {
  // By place among all four: 0 and 1 are the kernel's, 2 and 3 ours.
  test.each([
    [0, 3],
    [2, 1],
    [3, 2],
    [0, 1],
  ])(
    "each sees at once what another did: %i and %i",
    async (first, second) => {
      const c = await cluster(256);
      expect(await coherence(c.all[first]!, c.all[second]!, [...CASES, ...MORE_CASES])).toEqual([]);
      await end(c);
    },
    480_000,
  );

  test("do the same things at the same time", async () => {
    const c = await cluster(256);
    const [k1, k2] = c.k as [KernelMember, KernelMember];
    const [o1, o2] = c.o as [OurMember, OurMember];
    await together(k2, o1);
    await together(o2, k1);
    await life(k1, o2, false);
    await end(c);
  }, 900_000);

  test("locks are mastered by both kinds, and move on when a node leaves", async () => {
    const c = await cluster(256);
    const [k1, k2] = c.k as [KernelMember, KernelMember];
    const [o1, o2] = c.o as [OurMember, OurMember];
    const here = new Set<Member>(c.all);
    for (const m of c.all)
      await m.run(`mkdir $D/${m.name}; cd $D/${m.name}; for i in $(seq 30); do echo ${m.name} >f$i; done`);
    let round = 0;
    /** Every node that is here finds in every file what the one before it wrote, and writes something new. */
    const use = async (): Promise<void> => {
      for (const m of here) {
        round++;
        const seen = await m.run(`cd $D; tail -qn1 */f* | sort -u; for f in */f*; do echo ${round} >>$f; done`);
        if (round > 1) expect(seen).toBe(`${round - 1}\n`);
      }
    };
    const mastersSeen = async (m: OurMember): Promise<number[]> =>
      [...(await m.masters()).keys()].sort((a, b) => a - b);
    await use();
    expect(await mastersSeen(o1)).toEqual([1, 2, 11, 12]);
    expect(await mastersSeen(o2)).toEqual([1, 2, 11, 12]);
    const leaves = async (m: Member): Promise<void> => {
      await unmount(m);
      here.delete(m);
      const number = m instanceof OurMember ? m.number : KERNELS[c.k.indexOf(m as KernelMember)]!;
      for (const o of c.o) if (here.has(o)) expect(await mastersSeen(o)).not.toContain(number);
      await use();
    };
    const comes = async (m: Member): Promise<void> => {
      await mount(m);
      here.add(m);
      await use();
    };
    for (const m of [o1, k1, o2]) await leaves(m);
    // A kernel node is alone; then one of ours.
    for (const m of [k1, o2, o1]) await comes(m);
    for (const m of [k2, o2, k1]) await leaves(m);
    for (const m of [k1, k2, o2]) await comes(m);
    await end(c);
  }, 900_000);

  test("work on the same names, and all find the same afterwards", async () => {
    const seconds = Number(process.env["OCFS2_LOAD_SECONDS"] ?? 120);
    const c = await cluster(1024);
    const dir = tempDir("ocfs2-load");
    const loads = c.all.flatMap((m, i) =>
      [1, 2].map((n) => new Load(m, { dir, sub: "load", name: `${m.name}.${n}`, seed: 10 * i + n, seconds })),
    );
    // Beside that each unpacks and packs a tree of its own, over and over.
    const tar = `${dir}/tree.tar`;
    sh(["tar", "-C", repoRoot, "-cf", tar, "src", "test", "docs"]);
    const trees = c.all.map((m) =>
      m.run(
        `mkdir $D/${m.name}; cd $D/${m.name}; end=$(($(date +%s) + ${seconds})); while [ $(date +%s) -lt $end ]; do ` +
          `rm -rf tree old; tar -xf ${m instanceof KernelMember ? "/host" : ""}${tar} --one-top-level=old; cp -a old tree; ` +
          "diff -r old tree; done; find tree -type f | LC_ALL=C sort | xargs cat | md5sum",
        (seconds + 240) * 1000,
      ),
    );
    for (const load of loads) expect(await load.ended).toBe("status 0\n");
    expect(new Set(await Promise.all(trees)).size).toBe(1);
    const done = loads.map((l) => l.promised());
    console.log(loads.map((l, i) => `${l.name}: ${JSON.stringify(done[i])}`).join("\n"));
    for (const m of c.all) for (const l of loads) expect(await lost(m, "load", l.name, l.promised())).toBeUndefined();
    for (const m of c.all) expect(await countersOf(m, "load")).toBe(done.reduce((sum, p) => sum + p.counted, 0));
    const manifests = [
      ...(await Promise.all(c.k.map((k) => kernelManifest(k.node)))),
      ...(await Promise.all(c.o.map((o) => hostManifest(o.dir)))),
    ];
    for (const other of manifests.slice(1)) expect(other).toBe(manifests[0]);
    await end(c, OF_A_RACE);
  }, 1_800_000);
});
