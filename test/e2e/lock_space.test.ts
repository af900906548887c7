/** Locks of the cluster for programs that are no node: through the process of the node of their machine. */
import { spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LockSpace } from "../../src/api/lock_space.ts";
import { Control } from "../../src/cli/control.ts";
import { formatClusterConf } from "../../src/cluster/cluster_conf.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, type Ran, run, sh, toolEnv, trySh } from "../support/sh.ts";

const why = process.getuid?.() !== 0 ? "a node needs root" : missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : "";
if (why !== "") console.warn(`SKIPPED: locks of the cluster for programs: ${why}`);

describe.skipIf(why !== "")("two nodes of this machine, and programs", () => {
  const bin = join(repoRoot, "bin/ocfs2");
  const dir = tempDir("ocfs2-locks");
  const image = join(dir, "image");
  const files = join(dir, "files");
  const names = [1, 2].map((n) => `locks${process.pid}n${n}`) as [string, string];
  const env = { ...toolEnv(), O2CB_HEARTBEAT_THRESHOLD: "7" };
  const ocfs2 = (...args: string[]): Promise<string> =>
    run([process.execPath, bin, ...args], { env, cwd: dir, timeout_ms: 60_000 });
  const status = (i: 0 | 1): Record<string, unknown> =>
    JSON.parse(trySh([process.execPath, bin, "node", "status", "--json", "--node", names[i]]).stdout);
  const domains = (i: 0 | 1): string[] => (status(i)["domains"] as { name: string }[]).map((d) => d.name);

  beforeAll(async () => {
    sparseFile(image, 64);
    sh(["mkfs.ocfs2", "-q", "-F", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=locks", image]);
    const nodes = names.map((name, i) => ({
      name,
      num: i + 1,
      ipv4_address: `127.201.${process.pid % 256}.${i + 1}`,
      ipv4_port: 7777,
    }));
    writeFileSync(
      join(dir, "cluster.conf"),
      formatClusterConf([{ name: "locks", heartbeat_mode: "local", nodes, regions: [] }]),
    );
    await expect(LockSpace.join("things", { node: names[0] })).rejects.toThrow("ENOTCONN");
    // Without a heartbeat each of the two would be alone in the domain, and have all locks.
    await ocfs2("node", "start", "--node", names[0], "--config", "cluster.conf");
    await expect(LockSpace.join("things", { node: names[0] })).rejects.toThrow("EINVAL");
    expect(readFileSync(`/run/ocfs2/node-${names[0]}.log`, "utf8")).toMatch(
      /domain things is not joined: this node does not heartbeat; mount a volume first$/m,
    );
    await Promise.all(
      names.map((name) => {
        mkdirSync(join(dir, name));
        return ocfs2("mount", "-o", `node=${name},config=cluster.conf`, image, join(dir, name));
      }),
    );
  }, 120_000);
  afterAll(() => {
    for (const name of names) trySh(["umount", "-l", join(dir, name)]);
    for (const name of names) trySh([process.execPath, bin, "node", "stop", "--node", name]);
  }, 60_000);

  test("lock each other out, on one node and on two, and hand values on", async () => {
    const { uuid } = findHeartbeatArea(image);
    await expect(LockSpace.join(uuid, { node: names[0] })).rejects.toThrow("EBUSY");
    const [one, beside, other] = await Promise.all([
      LockSpace.join("things", { node: names[0] }),
      LockSpace.join("things", { node: names[0] }),
      LockSpace.join("things", { node: names[1] }),
    ]);
    const held = await one.lock("counter", "exclusive");
    held.setValue(Uint8Array.of(41));
    for (const space of [beside, other])
      await expect(space.lock("counter", "shared", { trylock: true })).rejects.toThrow("EAGAIN");
    const waits = other.lock("counter", "exclusive");
    await held.wanted();
    held.unlock();
    const got = await waits;
    expect(got.value()[0]).toBe(41);
    got.setValue(Uint8Array.of(42));
    got.unlock();
    const shared = await Promise.all([one, beside, other].map((space) => space.lock("counter", "shared")));
    expect(shared.map((lock) => lock.value()[0])).toEqual([42, 42, 42]);
    for (const lock of shared) lock.unlock();
    expect(domains(0).sort()).toEqual([uuid, "things"].sort());
    for (const space of [one, beside, other]) await space.close();
    expect(domains(0)).toEqual([uuid]);
  }, 60_000);

  test("are shared with a node that joins when cluster.conf has got one more", async () => {
    const early = await LockSpace.join("early", { node: names[0] });
    await ocfs2("cluster", "--config-file", "cluster.conf", "add-node", "locks", "third", "--ip", "127.201.0.77");
    for (const name of names) {
      const control = (await Control.openNode(name))!;
      expect(await control.ask({ type: "reload" })).toMatchObject({ notes: ["node third (0) added"], refused: [] });
      control.close();
    }
    const late = await LockSpace.join("early", { node: names[1] });
    for (const space of [early, late]) await space.close();
  }, 60_000);

  test("are the same locks as files, whatever the letters of their names", async () => {
    mkdirSync(files);
    await ocfs2("node", "start", "--node", names[0], "--dlmfs", files);
    mkdirSync(join(files, "日本"));
    const other = await LockSpace.join("日本", { node: names[1] });
    expect(domains(1)).toContain("日本");
    writeFileSync(join(files, "日本", "é"), "by the file");
    const held = await other.lock("é", "exclusive");
    expect(Buffer.from(held.value()).toString()).toContain("by the file");
    const path = join(files, "日本", readdirSync(join(files, "日本"))[0]!);
    expect(() => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)).toThrow("ETXTBSY");
    held.unlock();
    rmSync(path);
    rmdirSync(join(files, "日本"));
    expect(() => mkdirSync(join(files, "日".repeat(22)))).toThrow("EINVAL");
    await other.close();
  }, 60_000);

  test("files of locks are their makers', and chmod and chown keep others away", () => {
    const space = join(files, "space");
    chmodSync(dir, 0o711);
    mkdirSync(space, { mode: 0o711 });
    writeFileSync(join(space, "lock"), "", { mode: 0o640 });
    const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);
    expect([mode(space), mode(join(space, "lock"))]).toEqual(["711", "640"]);
    const nobody = (script: string): Ran =>
      trySh(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", `cd ${space} && ${script}`]);
    expect(nobody("exec 3<lock").stderr).toContain("Permission denied");
    chownSync(join(space, "lock"), 65534, 0);
    expect(nobody("exec 3<lock; chmod 600 lock")).toMatchObject({ status: 0 });
    expect(nobody("touch mine").stderr).toContain("Permission denied");
    chmodSync(space, 0o777);
    expect(nobody("umask 7; touch mine; stat -c '%u %g %a' lock mine").stdout).toBe("65534 0 600\n65534 65534 660\n");
    expect(trySh(["mkfifo", join(space, "pipe")]).stderr).toContain("not permitted");
    expect(readdirSync(space).sort()).toEqual(["lock", "mine"]);
    rmSync(join(space, "mine"));
    writeFileSync(join(space, "mine"), "");
    expect(statSync(join(space, "mine")).uid).toBe(0);
    for (const name of readdirSync(space)) rmSync(join(space, name));

    // No rm overtakes the close before it.
    const many = Array.from({ length: 200 }, (_, i) => join(space, `l${i}`));
    const fds = many.map((path) => openSync(path, "w+"));
    for (const fd of fds) closeSync(fd);
    for (const path of many.reverse()) rmSync(path);
    rmdirSync(space);
    sh(["umount", files]);
  }, 60_000);

  test("a program that is killed leaves its locks to the others", async () => {
    const ready = join(dir, "ready");
    const program = `
      import { writeFileSync } from "node:fs";
      import { LockSpace } from "${repoRoot}/dist/index.js";
      const space = await LockSpace.join("things", { node: "${names[0]}" });
      await space.lock("it", "exclusive");
      writeFileSync("${ready}", "");
      await space.lost;
    `;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" });
    while (!existsSync(ready)) await new Promise((ok) => setTimeout(ok, 50));
    const other = await LockSpace.join("things", { node: names[1] });
    const waits = other.lock("it", "exclusive");
    child.kill("SIGKILL");
    (await waits).unlock();
    await other.close();
  }, 60_000);

  test("a node stays for its programs when its last mount goes, and tells them when it goes itself", async () => {
    const [one, other] = (await Promise.all(names.map((node) => LockSpace.join("things", { node })))) as [
      LockSpace,
      LockSpace,
    ];
    await Promise.all(names.map((name) => ocfs2("umount", join(dir, name))));
    const held = await one.lock("it", "exclusive");
    const waits = other.lock("it", "exclusive");
    await held.wanted();
    held.unlock();
    (await waits).unlock();
    await other.close();
    while (status(1)["pid"] !== null) await new Promise((ok) => setTimeout(ok, 50));
    const void_then = await one.lock("it", "shared");
    await ocfs2("node", "stop", "--node", names[0]);
    await one.lost;
    expect(() => void_then.value()).toThrow("ENOTCONN");
    await expect(one.lock("it", "shared")).rejects.toThrow("ENOTCONN");
    void_then.unlock();
    await expect(one.lock("other", "shared")).rejects.toThrow("ENOTCONN");
  }, 60_000);
});
