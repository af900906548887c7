/** The cluster's locks as files, ours beside the kernel's own dlmfs: who holds one keeps the other out, and its 64 bytes go along. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { atExit, tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { long } from "../support/long.ts";
import { ocfs2 } from "../support/mount.ts";
import { type Ran, runAsync, trySh } from "../support/sh.ts";
import { OF_A_LEAVE } from "./complaints.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, OurMember } from "./members.ts";

// Most of a minute: src/fuse/dlmfs.test.ts has the rules.
test.skipIf(clusterUnavailable() !== undefined || !long)(
  "locks as files, between a kernel node and one of ours",
  async () => {
    const image = clusterImage(64);
    const rig = new ClusterRig(image, [1, 11]);
    const kernel = new KernelMember(rig.nameOf(1), await rig.kernel(1));
    const dir = join(tempDir("ocfs2-dlmfs"), "dlm");
    mkdirSync(dir);
    const ours = new OurMember(rig, 11);
    const start = [...rig.prefix, ocfs2, "node", "start", "--config", rig.conf, "--node", ours.name, "--dlmfs", dir];
    expect((await runAsync(start, { timeout_ms: 60_000 })).stderr).toBe("");
    atExit(() => trySh([ocfs2, "node", "stop", "--node", ours.name]));
    // A mounted volume gives each its heartbeat.
    await Promise.all([kernel.node.mount(), ours.mount()]);
    const here = (script: string): Promise<Ran> =>
      runAsync(["bash", "-c", `cd ${dir}; ${script}`], { timeout_ms: 60_000 });
    const said = async (script: string): Promise<string> => {
      const ran = await here(script);
      expect([ran.status, ran.stderr]).toEqual([0, ""]);
      return ran.stdout;
    };

    await kernel.run("mkdir /dlm/space");
    await said("mkdir space");
    expect(await said("ls; stat -c %s space/../space >/dev/null; touch space/lock; stat -c %s space/lock")).toBe(
      "space\n64\n",
    );

    // Ours holds it for writing: the kernel's trylock says so, and gets what was written once it is let go.
    const holder = here(
      "exec 3<>space/lock; printf from-ours >&3; touch ../held; until [ -e ../go ]; do sleep 0.1; done",
    );
    await said("until [ -e ../held ]; do sleep 0.1; done");
    expect(await kernel.run("cd /dlm/space; touch lock; dd if=lock iflag=nonblock count=1 2>&1 || true")).toContain(
      "Text file busy",
    );
    const waits = kernel.run("head -c 9 /dlm/space/lock");
    await said("touch ../go");
    expect((await holder).status).toBe(0);
    expect(await waits).toBe("from-ours");

    // The other way about. Two readers do not mind each other.
    const theirs = kernel.run("exec 3<>/dlm/space/lock; printf from-kernel >&3; touch /tmp/held; sleep 4");
    await kernel.run("until [ -e /tmp/held ]; do sleep 0.1; done");
    expect((await here("dd if=space/lock iflag=nonblock count=1")).stderr).toContain("Text file busy");
    expect(await said("head -c 11 space/lock")).toBe("from-kernel");
    await theirs;
    expect(
      await said("exec 3<space/lock; dd if=space/lock iflag=nonblock bs=64 count=1 2>/dev/null | head -c 11"),
    ).toBe("from-kernel");

    // Who waits can be interrupted, and leaves nothing behind.
    const long = kernel.run("exec 3<>/dlm/space/lock; touch /tmp/held2; sleep 6");
    await kernel.run("until [ -e /tmp/held2 ]; do sleep 0.1; done");
    expect((await here("timeout 1 head -c 1 space/lock")).status).toBe(124);
    await long;
    expect((await here("rmdir space")).stderr).toContain("not empty");
    await said("rm space/lock; rmdir space");
    expect((await here("mkdir space/x; touch y")).stderr).toMatch(/not permitted|No such file/);
    await kernel.run("rm /dlm/space/lock; rmdir /dlm/space");

    await ours.unmount();
    await kernel.node.unmount();
    expect(trySh([ocfs2, "node", "stop", "--node", ours.name]).status).toBe(0);
    expect(kernel.node.complaints().filter((line) => !OF_A_LEAVE.test(line))).toEqual([]);
    rig.close();
  },
  200_000,
);

const POLL = `
import os, select, sys
f = os.open(sys.argv[1], os.O_RDWR)
os.write(f, b"from-a")
p = select.poll()
p.register(f, select.POLLIN)
assert p.poll(300) == [], "wanted by nobody"
open(sys.argv[2], "w").close()
assert p.poll(20000) == [(f, select.POLLIN)], "the other node wants it"
os.close(f)
`;

test.skipIf(clusterUnavailable() !== undefined)(
  "poll tells the holder of a lock that another node wants it",
  async () => {
    const image = clusterImage(64);
    const rig = new ClusterRig(image, [11, 12]);
    const work = tempDir("ocfs2-dlmfs");
    const [a, b] = [new OurMember(rig, 11), new OurMember(rig, 12)];
    const dirs = [join(work, "a"), join(work, "b")];
    for (const [i, m] of [a, b].entries()) {
      mkdirSync(dirs[i]!);
      const start = [...rig.prefix, ocfs2, "node", "start", "--config", rig.conf, "--node", m.name];
      expect((await runAsync([...start, "--dlmfs", dirs[i]!], { timeout_ms: 60_000 })).stderr).toBe("");
      atExit(() => trySh([ocfs2, "node", "stop", "--node", m.name]));
    }
    await Promise.all([a.mount(), b.mount()]);
    for (const dir of dirs) expect((await runAsync(["mkdir", join(dir, "space")])).stderr).toBe("");
    writeFileSync(join(dirs[0]!, "space/lock"), "");
    writeFileSync(join(dirs[1]!, "space/lock"), "");
    const append =
      "exec 3>>space/lock; printf app >&3; printf end >&3; exec 3>&-; head -c 4 space/lock; stat -c %s space/lock";
    const appended = await runAsync(["bash", "-c", `cd ${dirs[0]}; ${append}`], { timeout_ms: 60_000 });
    expect(appended).toMatchObject({ status: 0, stdout: "end\x0064\n", stderr: "" });
    const polling = join(work, "polling");
    const holder = runAsync(["python3", "-c", POLL, join(dirs[0]!, "space/lock"), polling], { timeout_ms: 60_000 });
    while (!existsSync(polling)) await new Promise((ok) => setTimeout(ok, 50));
    const taker = await runAsync(["head", "-c", "6", join(dirs[1]!, "space/lock")], { timeout_ms: 60_000 });
    expect(taker.stdout).toBe("from-a");
    expect(await holder).toMatchObject({ status: 0, stderr: "" });
    await Promise.all([a.unmount(), b.unmount()]);
    for (const m of [a, b]) expect(trySh([ocfs2, "node", "stop", "--node", m.name]).status).toBe(0);
    rig.close();
  },
  120_000,
);
