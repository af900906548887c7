/**
 * The second part of `npm run demo`: a cluster of nodes on this machine, each with an address of its own on the loopback, all on one volume.
 * Software is built on all at once, each in its own tree; one is killed with -9 in the middle and brought back.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

/** What a demo with heartbeats every 2 s has patience for: a dead node is seen after 14 s instead of 62. */
const DEAD_THRESHOLD = "7";

const freePort = () =>
  new Promise((ok, no) => {
    const server = createServer();
    server.on("error", no);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => ok(port));
    });
  });

/** cluster.conf of a cluster of these nodes: address, number, name. */
export function clusterConf(cluster, nodes, port) {
  const stanza = (n) =>
    `node:\n\tip_port = ${port}\n\tip_address = ${n.address}\n\tnumber = ${n.number}\n\tname = ${n.name}\n\tcluster = ${cluster}\n`;
  return [
    `cluster:\n\tnode_count = ${nodes.length}\n\theartbeat_mode = local\n\tname = ${cluster}\n`,
    ...nodes.map(stanza),
  ].join("\n");
}

/** Clones and builds this repository in `dir`; seconds. */
async function build(d, dir) {
  const started = performance.now();
  const repo = join(dir, "ocfs2");
  const steps = [
    `git clone -q --no-hardlinks ${d.root} ${repo}`,
    `cd ${repo}`,
    "npm install --no-save --no-audit --no-fund --loglevel=error",
    "node scripts/build_asm.mjs",
    "npx tsc -p .",
    "grep -rq ocfs2_dinode src",
    `cd / && rm -r ${repo}/node_modules`,
  ];
  await d.run(["bash", "-ec", steps.join("\n")], "/", {}, { parallel: true });
  return (performance.now() - started) / 1000;
}

async function onExt3(d, count) {
  const image = join(d.work, "ext3.img");
  const dir = join(d.work, "ext3");
  d.sparse(image);
  mkdirSync(dir);
  await d.run(["mkfs.ext3", "-q", "-F", image]);
  d.undo.push(() => d.unmount(dir, ["umount", dir]));
  await d.run(["mount", "-o", "loop", image, dir], undefined, {}, d.toItsEnd);
  const dirs = Array.from({ length: count }, (_, i) => join(dir, `tree-${i}`));
  for (const one of dirs) mkdirSync(one);
  const seconds = [];
  await d.timed(`${count} builds at once on ext3`, async () => {
    seconds.push(...(await Promise.all(dirs.map((one) => build(d, one)))));
  });
  await d.run(["umount", dir], undefined, {}, d.toItsEnd);
  rmSync(image);
  return seconds;
}

/** `d`: run, timed, undo, unmount, sparse, fsck, work, root, ocfs2, toItsEnd, StepFailed of demo.mjs. */
export async function clusterDemo(d, count, with_ext3) {
  const port = await freePort();
  const nodes = Array.from({ length: count }, (_, i) => ({
    name: `demo${process.pid}-${i + 1}`,
    number: i + 1,
    address: `127.0.77.${i + 1}`,
    dir: join(d.work, `node-${i + 1}`),
    tree: join(d.work, `node-${i + 1}`, `tree-${i + 1}`),
  }));
  const conf = join(d.work, "cluster.conf");
  writeFileSync(conf, clusterConf("demo", nodes, port));
  const image = join(d.work, "shared.img");
  d.sparse(image);
  const env = { O2CB_HEARTBEAT_THRESHOLD: DEAD_THRESHOLD };
  const mount = (n) =>
    d.run([...d.ocfs2, "mount", "-o", `config=${conf},node=${n.name}`, image, n.dir], undefined, env, {
      ...d.toItsEnd,
      parallel: true,
    });
  const pidOf = (n) => {
    const argv = [...d.ocfs2, "node", "status", "--node", n.name, "--json"];
    const out = spawnSync(argv[0], argv.slice(1), { encoding: "utf8" }).stdout;
    return JSON.parse(out || "{}").pid ?? null;
  };
  for (const n of nodes) {
    mkdirSync(n.dir);
    d.undo.push(() => {
      d.unmount(n.dir, [...d.ocfs2, "umount", n.dir]);
      const pid = pidOf(n);
      if (pid !== null) process.kill(pid, "SIGKILL");
    });
  }

  await d.run([...d.ocfs2, "mkfs", "-q", "-N", String(count), "--cluster-stack=o2cb", "--cluster-name=demo", image]);
  const rows = [];
  rows.push(["mount on all nodes", await d.timed(`${count} nodes mount it`, () => Promise.all(nodes.map(mount)))]);
  for (const n of nodes) n.pid = pidOf(n);
  for (const n of nodes) mkdirSync(n.tree);
  const seconds = [];
  await d.timed("builds on all nodes at once, each in its own tree", async () => {
    seconds.push(...(await Promise.all(nodes.map((n) => build(d, n.tree)))));
  });

  const victim = nodes.at(-1);
  const others = nodes.slice(0, -1);
  const again = (n) =>
    d.run(
      ["bash", "-ec", `git clone -q --no-hardlinks ${d.root} ${n.tree}/again; ls ${nodes[0].dir}/*/ >/dev/null`],
      "/",
      {},
      { parallel: true },
    );
  const survived = await d.timed(`${victim.name} is killed with -9 while all clone; the others go on`, async () => {
    const dying = again(victim).catch(() => {});
    const going_on = others.map(again);
    await new Promise((ok) => setTimeout(ok, 300));
    process.kill(victim.pid, "SIGKILL");
    await Promise.all(going_on);
    d.unmount(victim.dir, ["umount", "-l", victim.dir]);
    await dying;
  });
  rows.push(["the others' clones, over the death of a node", survived]);
  rows.push(["it comes back", await d.timed("it comes back", () => mount(victim))]);
  victim.pid = pidOf(victim);
  const state = await d.run(["git", "-C", join(victim.tree, "ocfs2"), "status", "--porcelain"]);
  if (state.trim() !== "") throw new d.StepFailed(`what ${victim.name} had built before is not as it was:\n${state}`);
  for (const n of nodes) await d.run([...d.ocfs2, "umount", n.dir], undefined, {}, d.toItsEnd);
  await d.fsck(image);
  rmSync(image);

  const beside = with_ext3 ? await onExt3(d, count) : null;
  for (const [i, n] of nodes.entries()) rows.push([`build on node ${n.number}`, seconds[i], beside?.[i]]);
  return rows;
}
