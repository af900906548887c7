/** `ocfs2 cluster`: a cluster is described, registered, gets global heartbeat, changes while it runs, and is taken down again. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { formatClusterConf } from "../../src/cluster/cluster_conf.ts";
import { HeartbeatBlock } from "../../src/format/disk/index.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { dropOtherMounts } from "../support/mount.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, type Ran, runAsync, sh, toolEnv, trySh } from "../support/sh.ts";

const why = process.getuid?.() !== 0 ? "a node needs root" : missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : "";
if (why !== "") console.warn(`SKIPPED: ocfs2 cluster: ${why}`);

test.skipIf(why !== "")("a cluster with global heartbeat, from register-cluster to unregister-cluster", () => {
  const dir = tempDir("ocfs2-o2cb");
  const conf = join(dir, "cluster.conf");
  const node = `glob${process.pid}`;
  const net = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}`;
  const ocfs2 = join(repoRoot, "bin/ocfs2");
  const env = { ...toolEnv(), O2CB_HEARTBEAT_THRESHOLD: "7" };
  const cluster = (...args: string[]): Ran =>
    trySh([process.execPath, ocfs2, "cluster", "-v", "--config-file", conf, ...args], { env });
  const said = (...args: string[]): string => {
    const ran = cluster(...args);
    expect(ran.stderr).toBe("");
    expect(ran.status).toBe(0);
    return ran.stdout;
  };
  atExit(() => trySh([process.execPath, ocfs2, "node", "stop", "--node", node]));
  const on = ["--node", node];

  const image = join(dir, "image");
  sparseFile(image, 64);
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=glob", "--global-heartbeat", image]);
  const one = { image, ...findHeartbeatArea(image) };
  const self = { name: node, num: 1, ipv4_address: `${net}.1`, ipv4_port: 7777 };
  symlinkSync("shared.conf", conf);
  writeFileSync(conf, formatClusterConf([{ name: "glob", heartbeat_mode: "global", nodes: [self], regions: [] }]));
  said("add-heartbeat", "glob", one.image);
  expect([readlinkSync(conf), readdirSync(dir).sort()]).toEqual([
    "shared.conf",
    ["cluster.conf", "image", "shared.conf"],
  ]);
  expect(cluster("start-heartbeat", "glob", ...on).stderr).toContain("is not active");
  expect(cluster("cluster-status", "glob", ...on)).toMatchObject({ status: 1, stdout: "Cluster 'glob' is offline\n" });

  for (const [words, wrong] of [
    [["bogus"], /^ocfs2 cluster: unknown command 'bogus': see "ocfs2 cluster --help"\n$/],
    [["add-node", "--nope"], /^ocfs2 cluster add-node: unknown option '--nope'[^\n]*\n$/],
    [["add-node", "none", "x"], /^ocfs2 cluster add-node: Unknown cluster 'none' \(known: glob\)\n$/],
  ] as const)
    expect(cluster(...words)).toMatchObject({ status: 1, stdout: "", stderr: expect.stringMatching(wrong) });
  said("register-cluster", "glob", ...on);
  expect(cluster("start-heartbeat", "glob", ...on).stderr).toContain(`no device has the heartbeat region ${one.uuid}`);
  expect(said("start-heartbeat", "glob", ...on, "--device", one.image)).toContain(`heartbeat started on ${one.image}`);
  const block = (): HeartbeatBlock => HeartbeatBlock.from(readFileSync(one.image), one.offset_bytes + one.slot_bytes);
  expect([block().hb_node, block().hb_dead_ms]).toEqual([1, 14_000]);

  said("add-node", "glob", "other", "--ip", `${net}.2`, "--number", "2");
  expect(said("register-cluster", "glob", ...on)).toBe("node other (2) added\n");
  const status = JSON.parse(said("cluster-status", "--json", ...on)) as Record<string, unknown>;
  expect(status).toMatchObject({ cluster: "glob", online: true, node, number: 1, heartbeat_mode: "global" });
  expect((status["nodes"] as { name: string; live: boolean }[]).map((n) => [n.name, n.live])).toEqual([
    [node, true],
    ["other", false],
  ]);
  expect(cluster("unregister-cluster", "glob", ...on).stderr).toContain("still active");
  said("remove-node", "glob", "other");
  expect(said("register-cluster", "glob", ...on)).toBe("node other (2) removed\n");
  const text = readFileSync(conf, "utf8");
  writeFileSync(conf, text.replace(`${net}.1`, `${net}.9`));
  expect(cluster("register-cluster", "glob", ...on)).toMatchObject({
    status: 1,
    stderr: `ocfs2 cluster register-cluster: node ${node} (1) is in use and stays as it is\n`,
  });
  writeFileSync(conf, text);

  // A region that is not in the file any more stops.
  said("remove-heartbeat", "glob", one.uuid);
  expect(said("start-heartbeat", "glob", ...on)).toContain(`heartbeat stopped on region ${one.uuid}`);
  expect(block().hb_generation).toBe(0n);
  said("unregister-cluster", "glob", ...on);
});

test.skipIf(why !== "")(
  "a region of global heartbeat is taken away under a mount while more than three are there",
  () => {
    const dir = tempDir("ocfs2-regions");
    const conf = join(dir, "cluster.conf");
    const node = `regions${process.pid}`;
    const bin = join(repoRoot, "bin/ocfs2");
    const env = { ...toolEnv(), O2CB_HEARTBEAT_THRESHOLD: "7" };
    const ocfs2 = (...args: string[]): Ran => trySh([process.execPath, bin, ...args], { env });
    const cluster = (...args: string[]): Ran => ocfs2("cluster", "-v", "--config-file", conf, ...args);
    const ok = (ran: Ran): string => {
      expect([ran.status, ran.stderr]).toEqual([0, ""]);
      return ran.stdout;
    };
    const images = [1, 2, 3, 4].map((i) => {
      const path = join(dir, `image${i}`);
      sparseFile(path, 64);
      const how = ["-N", "2", "--cluster-stack=o2cb", "--cluster-name=glob", "--global-heartbeat"];
      sh(["mkfs.ocfs2", "-q", "-F", ...how, path]);
      return { path, uuid: findHeartbeatArea(path).uuid };
    });
    const regions = images.map((i) => i.uuid);
    const self = { name: node, num: 1, ipv4_address: `127.202.${process.pid % 256}.1`, ipv4_port: 7777 };
    writeFileSync(conf, formatClusterConf([{ name: "glob", heartbeat_mode: "global", nodes: [self], regions }]));
    const mnt = join(dir, "mnt");
    mkdirSync(mnt);
    atExit(() => trySh([process.execPath, bin, "node", "stop", "--node", node]));

    ok(cluster("register-cluster", "glob", "--node", node));
    const start = (): Ran =>
      cluster("start-heartbeat", "glob", "--node", node, "--device", ...images.map((i) => i.path));
    ok(start());
    ok(ocfs2("mount", "-o", `node=${node},config=${conf}`, images[0]!.path, mnt));
    ok(cluster("remove-heartbeat", "glob", regions[3]!));
    expect(ok(start())).toBe(`heartbeat stopped on region ${regions[3]}\n`);
    ok(cluster("remove-heartbeat", "glob", regions[2]!));
    expect(start()).toMatchObject({ status: 1, stderr: expect.stringContaining(`region ${regions[2]} is in use`) });
    expect(cluster("stop-heartbeat", "glob", "--node", node).stderr).toContain("is in use: unmount first");
    ok(ocfs2("umount", mnt));
    expect(ok(start())).toBe(`heartbeat stopped on region ${regions[2]}\n`);
    ok(cluster("stop-heartbeat", "glob", "--node", node));
    ok(cluster("unregister-cluster", "glob", "--node", node));
  },
  120_000,
);

const ofStatus = (pid: number | "self", name: string): string =>
  new RegExp(`^${name}:\\s*(\\w+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!;
const lockedKib = (pid: number): number => Number(ofStatus(pid, "VmLck"));
const CAP_IPC_LOCK = 14n;
const mayLockMemory = (): boolean => ((BigInt(`0x${ofStatus("self", "CapEff")}`) >> CAP_IPC_LOCK) & 1n) === 1n;

describe.skipIf(why !== "")("a node of its own", () => {
  const bin = join(repoRoot, "bin/ocfs2");
  let dir: string;
  let node: string;
  const env = (more: Record<string, string> = {}) => ({ ...toolEnv(), O2CB_HEARTBEAT_THRESHOLD: "7", ...more });
  const ocfs2 = (...args: string[]): Ran => trySh([process.execPath, bin, ...args], { env: env(), cwd: dir });
  const ok = (...args: string[]): string => {
    const ran = ocfs2(...args);
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    return ran.stdout;
  };
  const status = (): Record<string, unknown> =>
    JSON.parse(ocfs2("node", "status", "--json", "--node", node).stdout) as Record<string, unknown>;
  const log = (): string => readFileSync(`/run/ocfs2/node-${node}.log`, "utf8");
  const volume = (name: string): string => {
    const path = join(dir, name);
    sparseFile(path, 64);
    sh(["mkfs.ocfs2", "-q", "-F", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=own", path]);
    mkdirSync(join(dir, `on-${name}`));
    return path;
  };

  let next = 0;
  beforeEach(() => {
    dir = tempDir("ocfs2-own");
    node = `own${process.pid}x${next++}`;
    const self = { name: node, num: 1, ipv4_address: `127.200.${process.pid % 256}.${next}`, ipv4_port: 7777 };
    const conf = ["other", "own"].map((name) => ({
      name,
      heartbeat_mode: "local" as const,
      nodes: [self],
      regions: [],
    }));
    writeFileSync(join(dir, "cluster.conf"), formatClusterConf(conf));
    volume("a");
  });
  afterEach(() => {
    for (const name of ["a", "b"]) trySh(["umount", "-l", join(dir, `on-${name}`)]);
    ocfs2("node", "stop", "--node", node);
  });
  const mount = (name = "a", conf = join(dir, "cluster.conf")): string[] => [
    ...["mount", "-o", `node=${node},config=${conf}`, name, `on-${name}`],
  ];

  test("is started once by mounts that come at the same time, as those of /etc/fstab do", async () => {
    volume("b");
    const both = ["a", "b"].map((name) =>
      runAsync([process.execPath, bin, ...mount(name, "cluster.conf")], { env: env(), cwd: dir, timeout_ms: 60_000 }),
    );
    for (const ran of await Promise.all(both)) expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect((status()["mounts"] as unknown[]).length).toBe(2);
    ok("umount", "on-a");
    ok("umount", "on-b");
  }, 120_000);

  test("goes again with a mount that is called off under way", async () => {
    const mounting = spawn(process.execPath, [bin, ...mount()], { cwd: dir, env: env(), stdio: "ignore" });
    const ended = once(mounting, "exit");
    while (status()["pid"] === null) await new Promise((ok) => setTimeout(ok, 100));
    mounting.kill("SIGINT");
    await ended;
    while (status()["pid"] !== null) await new Promise((ok) => setTimeout(ok, 500));
    expect(readFileSync("/proc/self/mounts", "utf8")).not.toContain(join(dir, "on-a"));
    expect(log()).toContain("joining the lock domain");
  }, 60_000);

  test("stays without its mount, and grows its trees, when it is told to while it runs", () => {
    ok(...mount());
    volume("b");
    expect(ocfs2("mount", "-o", `nocluster,node=${node}`, "b", "on-b")).toMatchObject({
      status: 0,
      stderr: expect.stringContaining("without its cluster"),
    });
    const mounts = status()["mounts"] as { dir: string; answers: boolean; pid?: number }[];
    expect(mounts.map((m) => [m.dir, m.answers])).toEqual(["a", "b"].map((name) => [join(dir, `on-${name}`), true]));
    // Other nodes wait for no page of it to be swapped in.
    if (mayLockMemory()) expect(lockedKib(status()["pid"] as number)).toBeGreaterThan(128 << 10);
    expect(lockedKib(mounts[1]!.pid!)).toBe(0);
    expect(ok("node", "status", "--node", node)).toMatch(/on-b +\S+b +0 +yes$/m);
    ok("umount", "on-b");
    mkdirSync(join(dir, "tree"));
    ok("node", "start", "--node", node, "--configfs", "tree");
    expect(sh(["ls", join(dir, "tree/cluster")])).toBe("own\n");
    mkdirSync(join(dir, "tree2"));
    expect(ocfs2("node", "start", "--node", node, "--configfs", "tree2").stderr).toContain(
      `has its configfs on ${dir}/tree already`,
    );
    ok("umount", "on-a");
    expect(status()).toMatchObject({ node, number: 1, cluster: "own", mounts: [] });
    ok("node", "stop", "--node", node);
    expect(ok("node", "stop", "--node", node)).toBe(`node ${node} does not run\n`);
  }, 60_000);

  test("that stands still is said not to answer", async () => {
    // A umask of 0 opens its socket to nobody: whoever can write to that is obeyed.
    const umask = process.umask(0);
    ok("node", "start", "--config", join(dir, "cluster.conf"), "--node", node);
    process.umask(umask);
    expect(["sock", "log"].map((kind) => statSync(`/run/ocfs2/node-${node}.${kind}`).mode & 0o22)).toEqual([0, 0]);
    // Nor may anybody else take the lock that its starters wait for.
    expect(statSync(`/run/ocfs2/node-${node}.start`).mode & 0o77).toBe(0);
    // Who names none is told of it.
    const unnamed = ocfs2("cluster", "log");
    expect(unnamed.status).toBe(1);
    expect(unnamed.stderr).toMatch(new RegExp(`^ocfs2: on this machine runs .*\\b${node}\\b.*: name it with --node\n`));
    const pid = status()["pid"] as number;
    process.kill(pid, "SIGSTOP");
    const commands = ["node status", "node status --json", "cluster cluster-status"].map((words) =>
      runAsync([process.execPath, bin, ...words.split(" "), "--node", node], { timeout_ms: 30_000 }),
    );
    const [text, json, cluster] = await Promise.all(commands);
    process.kill(pid, "SIGCONT");
    const says = `the process of node ${node} does not answer`;
    expect(text).toMatchObject({ status: 1, stdout: expect.stringContaining(says) });
    expect(JSON.parse(json!.stdout)).toMatchObject({ node, answers: false, mounts: [] });
    expect(cluster).toMatchObject({ status: 1, stderr: expect.stringContaining(says) });
    ok("node", "stop", "--node", node);
  }, 60_000);

  test("is of the cluster that register-cluster names, and gone when unregister-cluster returns", () => {
    const cluster = (...args: string[]): string => ok("cluster", "--config-file", "cluster.conf", ...args);
    for (let i = 0; i < 2; i++) {
      cluster("register-cluster", "own", "--node", node);
      expect(status()).toMatchObject({ cluster: "own" });
      cluster("unregister-cluster", "own", "--node", node);
      expect(status()).toMatchObject({ cluster: null, pid: null });
    }
  }, 60_000);

  test("has the time-outs of /etc/default/o2cb, and before them those of the environment; who comes later has none to say", () => {
    const o2cb =
      "O2CB_HEARTBEAT_THRESHOLD=11\\nO2CB_IDLE_TIMEOUT_MS=12000\\nO2CB_KEEPALIVE_DELAY_MS=1500\\nO2CB_RECONNECT_DELAY_MS=1600\\n";
    const start = `${dropOtherMounts()}; mount -t tmpfs none /etc/default && printf '${o2cb}' >/etc/default/o2cb && exec "$@"`;
    // It is the host's, whose name has its domain behind it.
    const host = `hostname ${node.toUpperCase()}.example.org && ${start}`;
    const argv = ["unshare", "-mu", "sh", "-c", host, "sh", process.execPath, bin, "node", "start", "--config"];
    const ran = trySh([...argv, join(dir, "cluster.conf")], { env: env(), cwd: dir });
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    expect(status()["timeouts"]).toEqual({
      dead_threshold: 7,
      idle_timeout_ms: 12000,
      keepalive_delay_ms: 1500,
      reconnect_delay_ms: 1600,
    });
    ok("node", "stop", "--node", node);

    ok(...mount());
    volume("b");
    const late = trySh([process.execPath, bin, ...mount("b")], {
      env: env({ O2CB_HEARTBEAT_THRESHOLD: "9" }),
      cwd: dir,
    });
    expect(late.status).toBe(0);
    expect(late.stderr).toMatch(
      /^ocfs2 mount: O2CB_HEARTBEAT_THRESHOLD=9 is without effect, it is 7 here: node \S+ has been running before \(pid \d+\)\n$/,
    );
    ok("umount", "on-a");
    ok("umount", "on-b");
  }, 90_000);

  test("has the lock domain of a volume once: mounted, or through dlmfs", () => {
    const dlmfs = join(dir, "dlm");
    mkdirSync(dlmfs);
    ok("cluster", "--config-file", "cluster.conf", "register-cluster", "own", "--node", node);
    ok("node", "start", "--node", node, "--dlmfs", dlmfs);
    ok(...mount());
    const uuid = (name: string): string => findHeartbeatArea(join(dir, name)).uuid;
    expect(trySh(["mkdir", join(dlmfs, uuid("a"))]).stderr).toContain("Device or resource busy");
    volume("b");
    sh(["mkdir", join(dlmfs, uuid("b"))]);
    const both = ocfs2(...mount("b"));
    expect([both.status, both.stderr]).toEqual([
      32,
      `ocfs2 mount: a program has joined the lock domain of ${dir}/b, ${uuid("b")}: let it leave first (rmdir ${dlmfs}/${uuid("b")})\n`,
    ]);
    sh(["rmdir", join(dlmfs, uuid("b"))]);
    ok(...mount("b"));
    ok("node", "stop", "--node", node);
  }, 90_000);

  test("logs with the time; a mask that is on is on for mounts that come later, too", () => {
    ok("cluster", "--config-file", "cluster.conf", "register-cluster", "own", "--node", node);
    ok("cluster", "log", "--node", node, "DLM_GLUE=allow", "FUSE=allow");
    ok(...mount());
    ok("umount", "on-a");
    const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;
    for (const mask of ["NOTICE", "DLM_GLUE", "FUSE"])
      expect(log()).toMatch(new RegExp(`^${time} ocfs2: ${mask}: `, "m"));
    expect(ocfs2("cluster", "log", "--node", node, "NONE=allow").stderr).toContain('there is no log mask "NONE"');
    ok("node", "stop", "--node", node);
  }, 60_000);
});
