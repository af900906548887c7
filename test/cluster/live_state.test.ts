/**
 * What a running node says of its locks and connections: debugfs.ocfs2 understands it, and ours prints it in
 * the same words.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Control } from "../../src/cli/control.ts";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { ocfs2 } from "../support/mount.ts";
import { missing, runAsync } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const debugfs = (...args: string[]) => runAsync([process.execPath, ocfs2, "debugfs", ...args]);

/** A node's text, as its control socket gives it. */
async function locksOf(dir: string, what: string): Promise<string> {
  const control = (await Control.open(dir))!;
  let text = "";
  for (let a = await control.ask({ type: "locks", what }); a!["text"] !== ""; a = await control.next())
    text += a!["text"];
  control.close();
  return text;
}

/** What both tools print of a copy. Version 4 has more behind the fields of version 3, the last that Debian's tool reads. */
async function bothPrint(command: string, copy: string): Promise<string> {
  const path = join(tempDir("ocfs2-locks"), "copy");
  writeFileSync(path, copy.replaceAll(/^0x4\t/gm, "0x3\t"));
  const line = command.replace(/^\w+/, (name) => `${name} -f ${path}`);
  const [ours, theirs] = await Promise.all([debugfs("-R", line), runAsync(["debugfs.ocfs2", "-R", line])]);
  expect(ours.stderr).toBe("");
  // The classic tool has no words for today's value blocks.
  const plain = ours.stdout.replaceAll(/^Decoded LVB:.*\n(\t\t\w.*\n){4}/gm, "");
  expect(plain, command).toBe(theirs.stdout);
  return ours.stdout;
}

const unavailable = clusterUnavailable() ?? (missing("debugfs.ocfs2").length > 0 ? "no debugfs.ocfs2" : undefined);

test.skipIf(unavailable !== undefined)(
  "locks and connections of a running node are shown in debugfs.ocfs2's words",
  async () => {
    const image = clusterImage(128);
    const rig = new ClusterRig(image, [11, 12]);
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    await Promise.all([a.mount(), b.mount()]);
    await a.run("mkdir $D/d; echo one >$D/d/a; mkdir $D/t");
    await b.run("cat $D/d/a; echo two >>$D/d/a");
    await a.run("cat $D/d/a");
    await b.run("mv $D/d/a $D/d/b");
    await a.run("ls $D/d");

    const fs = await locksOf(a.dir, "fs_locks");
    expect(fs).toMatch(/^0x4\t/);
    for (const command of ["fs_locks", "fs_locks -l", "fs_locks -B"]) await bothPrint(command, fs);
    expect(await bothPrint("fs_locks -l", fs)).toMatch(/Decoded LVB:\tVersion: 5 /);
    const dlm = await locksOf(a.dir, "dlm_locks");
    for (const command of ["dlm_locks", "dlm_locks -l"]) await bothPrint(command, dlm);

    const live = (command: string, ...more: string[]) => debugfs("--node", a.name, "-R", command, ...more, image);
    const inode = (await a.run("stat -c %i $D/d")).trim();
    const meta = `M${Number(inode).toString(16).padStart(22, "0")}00000000`;
    const one = await live(`fs_locks -l ${meta}`);
    expect(one.stderr).toBe("");
    expect(one.stdout).toMatch(
      new RegExp(
        `^Lockres: ${meta}  Mode: (Protected Read|Exclusive)\nFlags: Initialized Attached.*\nRO Holders: 0  EX Holders: 0\n` +
          "Pending Action: None  Pending Unlock Action: None\nRequested Mode: .*  Blocking Mode: .*\nRaw LVB:\t(.*\n){4}" +
          "(Decoded LVB:(.*\n){5})?PR > Gets: [1-9]\\d*  Fails: 0    Waits Total: \\d+us  Max: \\d+us  Avg: \\d+ns Last: \\d+us\n" +
          "EX > Gets: \\d+ .*\nDisk Refreshes: \\d+ First Wait: 0us\n\n$",
      ),
    );
    const json = JSON.parse((await live(`fs_locks ${meta}`, "--json")).stdout) as { lockres: string; pr: object }[];
    expect(json).toMatchObject([{ lockres: meta, ro_holders: 0, pr: { fails: 0 } }]);
    const dlm_json = JSON.parse((await live(`dlm_locks ${meta}`, "--json")).stdout) as { locks: { node: number }[] }[];
    expect(dlm_json).toHaveLength(1);
    expect(dlm_json[0]!.locks.some((l) => [11, 12].includes(l.node))).toBe(true);
    expect(await live("fs_locks Mnone")).toMatchObject({ status: 1, stderr: "fs_locks: no such lock here: Mnone\n" });

    const stats = (await live("net_stats")).stdout.split("\n");
    expect(stats[1]).toMatch(/^Node# {2}send q/);
    const [node, sent, received, ...times] = stats[2]!.trim().split(/ +/);
    expect(node).toBe("12");
    expect(Number(sent)).toBeGreaterThan(10);
    expect(Number(received)).toBeGreaterThan(10);
    expect(times.map(Number).every((t) => t >= 0 && t < 1e6)).toBe(true);
    expect((await live("slotmap")).stdout.match(/^\t +\d+ +\d+$/gm)).toHaveLength(2);
    expect((await live("hb")).stdout.match(/^\t +(11|12): /gm)).toHaveLength(2);

    // Two nodes of this machine have it: which one?
    const either = await debugfs("-R", "fs_locks", image);
    expect(either.status).toBe(1);
    expect(either.stderr).toMatch(
      /^fs_locks: .* is mounted by the nodes .*, .* of this machine: say which one with --node\n$/,
    );
    await Promise.all([a.unmount(), b.unmount()]);
    for (const command of ["fs_locks", "dlm_locks", "net_stats"]) {
      const ran = await debugfs("-R", command, image);
      expect(ran.status).toBe(1);
      expect(ran.stderr).toBe(
        `${command}: ${image} is not mounted by any node of this machine: "ocfs2 mount" it first, or give a copy of the state with -f\n`,
      );
    }
    rig.close();
  },
  180_000,
);
