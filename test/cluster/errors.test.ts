/** What a person does wrong with a cluster, and what the command line says about it: one line, what and which and what to do; 32 for mount. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { ocfs2 } from "../support/mount.ts";
import { missing, runAsync, sh } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

const MOUNT_FAILED = 32;
const unavailable = clusterUnavailable() ?? (missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : undefined);

describe.skipIf(unavailable !== undefined)("a mount that cannot be says why in one line", () => {
  let rig: ClusterRig;
  let image: string;
  let text: string;
  const dir = tempDir("ocfs2-mountpoint");

  beforeAll(() => {
    image = clusterImage(64);
    rig = new ClusterRig(image, [11, 12]);
    text = readFileSync(rig.conf, "utf8");
  });
  afterAll(() => rig.close());

  interface Try {
    /** cluster.conf; the rig's without. */
    readonly conf?: string;
    readonly node?: string;
    readonly options?: string;
    readonly device?: string;
    readonly env?: readonly string[];
  }

  /** Mounts as node 11, or another one, and hears what it says. */
  async function mount(t: Try = {}): Promise<string> {
    let path = rig.conf;
    if (t.conf !== undefined) {
      path = join(tempDir("ocfs2-conf"), "cluster.conf");
      writeFileSync(path, t.conf);
    }
    const o = t.options ?? `node=${t.node ?? rig.nameOf(11)},config=${path}`;
    const argv = [...rig.prefix, ...(t.env ?? []), process.execPath, ocfs2, "mount", "-o", o, t.device ?? image, dir];
    const ran = await runAsync(argv, { timeout_ms: 60_000 });
    expect(ran.status, ran.stderr).toBe(MOUNT_FAILED);
    expect(ran.stdout).toBe("");
    const lines = ran.stderr.split("\n");
    expect(lines, ran.stderr).toHaveLength(2);
    const head = "ocfs2 mount: ";
    expect(lines[0]!.startsWith(head)).toBe(true);
    return lines[0]!.slice(head.length).replaceAll(path, "CONF").replaceAll(image, "IMAGE");
  }

  const edited = (from: string | RegExp, to: string): Try => ({ conf: text.replace(from, to) });

  test("a cluster that cluster.conf does not have", async () => {
    expect(await mount({ conf: text.replaceAll(/(name|cluster) = rig$/gm, "$1 = other") })).toBe(
      'IMAGE belongs to the cluster "rig", but CONF has "other": name another file with -o config=FILE, or make the volume the cluster\'s with tunefs.ocfs2 --update-cluster-stack',
    );
  });

  test("of two clusters the volume's", async () => {
    const other = text.replaceAll(/(name|cluster) = rig$/gm, "$1 = other").replaceAll("10.77.0.11", "10.1.1.1");
    // The first that has the node is at an address which this machine does not have; the volume's is.
    const m = new OurMember(rig, 11);
    writeFileSync(rig.conf, `${other}\n${text}`);
    await m.mount();
    await m.unmount();
    writeFileSync(rig.conf, text);
  });

  test("another cluster stack", async () => {
    const device = join(tempDir("ocfs2-pcmk"), "image");
    sh(["truncate", "-s", "64M", device]);
    sh(["mkfs.ocfs2", "-q", "-F", "--cluster-stack=pcmk", "--cluster-name=rig", device]);
    expect(await mount({ device })).toMatch(/belongs to the cluster stack pcmk, which is not o2cb: change it with /);
  });

  test("a node that is not in the file", async () => {
    expect(await mount({ node: "nobody" })).toBe(
      `CONF: node "nobody" is not in cluster "rig" (${rig.nameOf(11)}, ${rig.nameOf(12)}); name another one (mount -o node=NAME, else --node NAME), or add it: ocfs2 cluster add-node rig nobody --ip ADDRESS`,
    );
  });

  test("no cluster.conf, or an empty one", async () => {
    expect(await mount({ options: "node=x,config=/no/such/file" })).toMatch(
      /^\/no\/such\/file cannot be read: .*"ocfs2 cluster add-cluster" makes one, or mount with -o nocluster/,
    );
    expect(await mount({ conf: "" })).toBe("CONF: there is no cluster in it; ocfs2 cluster add-cluster NAME");
  });

  test("what cannot be read in cluster.conf, with its line", async () => {
    expect(await mount(edited("ip_port = 7777", "ip_port = http"))).toMatch(
      /^CONF:7: ip_port "http" is no number from 1 to /,
    );
    expect(await mount(edited("ip_address = 10.77.0.12", "ip_address = 10.77.0"))).toMatch(
      /^CONF:15: ip_address "10.77.0" is no IPv4 address; give one like 192.168.1.7$/,
    );
    expect(await mount(edited("number = 12", "number = 11"))).toMatch(
      new RegExp(`^CONF:16: number 11 is ${rig.nameOf(11)}'s already; give each node its own$`),
    );
    expect(await mount(edited("node:", "nodes:"))).toBe(
      'CONF:6: unknown stanza "nodes:"; it is cluster:, node: or heartbeat:',
    );
    expect(await mount(edited("\tnumber = 12", "number = 12"))).toBe(
      'CONF:16: "number = 12" begins in the first column; put a tab before it',
    );
  });

  test("an address that this machine does not have", async () => {
    expect(await mount(edited("10.77.0.11", "10.77.0.99"))).toMatch(
      /10\.77\.0\.99:7777 is not an address of this machine: correct ip_address in cluster.conf, or give the right --node$/,
    );
  });

  test("a port that is taken", async () => {
    // In this process's own network: the loopback, and a port of the system's choice.
    const server = createServer();
    const port = await new Promise<number>((ok) =>
      server.listen(0, "127.0.0.1", () => ok((server.address() as { port: number }).port)),
    );
    const conf = join(tempDir("ocfs2-conf"), "cluster.conf");
    writeFileSync(conf, text.replace("ip_port = 7777", `ip_port = ${port}`).replace("10.77.0.11", "127.0.0.1"));
    const o = `node=${rig.nameOf(11)},config=${conf}`;
    const ran = await runAsync([process.execPath, ocfs2, "mount", "-o", o, image, dir], { timeout_ms: 60_000 });
    server.close();
    expect(ran).toMatchObject({
      status: MOUNT_FAILED,
      stderr: `ocfs2 mount: node ${rig.nameOf(11)}: 127.0.0.1:${port} is taken: is a node of that name running already, or the kernel's o2cb? (ocfs2 node status)\n`,
    });
  });

  test("time-outs that are none", async () => {
    expect(await mount({ env: ["O2CB_IDLE_TIMEOUT_MS=soon"] })).toBe(
      'environment: O2CB_IDLE_TIMEOUT_MS="soon"; give a whole number of at least 1, the same on all nodes',
    );
    expect(await mount({ env: ["O2CB_IDLE_TIMEOUT_MS=1"] })).toMatch(
      /^environment: O2CB_IDLE_TIMEOUT_MS \(1\) is not larger than O2CB_KEEPALIVE_DELAY_MS \(2000\); raise the first/,
    );
  });

  test("a volume with quota", async () => {
    const device = clusterImage(300, ["-N", "2", "--fs-features=usrquota,grpquota"]);
    expect(await mount({ device })).toBe(
      `${device}: feature usrquota grpquota: quotas are not kept on a cluster yet; take them off (tunefs.ocfs2 --fs-features=nousrquota,nogrpquota), or read it alone with -o nocluster,ro`,
    );
  });

  test("a device whose sectors are larger than the volume's blocks, before a heartbeat is written to it", async () => {
    const small = clusterImage(64, ["-N", "2", "-b", "1K"]);
    const before = readFileSync(small);
    const device = sh(["losetup", "--find", "--show", "--sector-size", "4096", small]).trim();
    try {
      expect(await mount({ device })).toBe(
        `${device}: blocks of 1024 bytes on a device with sectors of 4096: copy the volume to a device with smaller sectors, or make a new one with larger blocks`,
      );
    } finally {
      sh(["losetup", "--detach", device]);
    }
    expect(readFileSync(small).equals(before)).toBe(true);
  });

  test("a volume that is mounted without the cluster", async () => {
    const alone = join(dir, "alone");
    mkdirSync(alone);
    const ran = await runAsync([process.execPath, ocfs2, "mount", "-o", "nocluster", image, alone]);
    expect(ran).toMatchObject({ status: 0, stderr: expect.stringMatching(/WARNING: .* without its cluster/) });
    expect(await mount()).toMatch(
      new RegExp(`^IMAGE is mounted on ${alone} without the cluster \\(pid \\d+\\): "ocfs2 umount ${alone}" first$`),
    );
    sh([process.execPath, ocfs2, "umount", alone]);
  });

  describe("beside a node that has it mounted", () => {
    let a: OurMember;
    beforeAll(async () => {
      a = new OurMember(rig, 11);
      await a.mount();
    }, 60_000);
    afterAll(() => a.unmount(), 60_000);
    const b = (): string => rig.nameOf(12);

    test("the same node again, and somebody alone", async () => {
      expect(await mount()).toBe(
        `IMAGE is mounted on ${a.dir} by node ${a.name} already: use that folder, or a bind mount of it`,
      );
      expect(await mount({ options: "nocluster" })).toMatch(
        new RegExp(`^IMAGE is mounted on ${a.dir} already \\(pid \\d+\\): "ocfs2 umount ${a.dir}" frees it$`),
      );
      expect(await a.run("echo still there >$D/x; cat $D/x")).toBe("still there\n");
    });

    test("umount of a device that two nodes of the machine have mounted", async () => {
      const other = new OurMember(rig, 12);
      await other.mount();
      const ran = await runAsync([process.execPath, ocfs2, "umount", image]);
      expect(ran.status).toBe(32);
      expect(ran.stderr).toContain(`${a.dir} (node ${a.name})`);
      expect(ran.stderr).toContain(`${other.dir} (node ${other.name})`);
      expect(ran.stderr).toMatch(/: name the folder$/m);
      await other.unmount();
      expect(await a.run("cat $D/x")).toBe("still there\n");
    }, 60_000);

    for (const [what, env, theirs, ours, setting] of [
      ["a network idle timeout", "O2CB_IDLE_TIMEOUT_MS=10000", 30000, 10000, "O2CB_IDLE_TIMEOUT_MS"],
      ["a keepalive delay", "O2CB_KEEPALIVE_DELAY_MS=1000", 2000, 1000, "O2CB_KEEPALIVE_DELAY_MS"],
      ["a heartbeat timeout", "O2CB_HEARTBEAT_THRESHOLD=9", 12000, 16000, "O2CB_HEARTBEAT_THRESHOLD"],
    ] as const)
      test(`${what} that differs: which node, which value`, async () => {
        expect(await mount({ node: b(), env: [env] })).toBe(
          `IMAGE: node ${a.name} (11) at 10.77.0.11:7777 uses ${what} of ${theirs} ms, but we use ${ours} ms locally: set ${setting} to the same on all nodes`,
        );
      }, 60_000);

    test("a cluster.conf that is another than the other node's", async () => {
      // Node 12's is the last.
      const at = text.lastIndexOf("7777");
      const conf = `${text.slice(0, at)}7778${text.slice(at + 4)}`;
      expect(await mount({ node: b(), conf })).toBe(
        'IMAGE: node 11 has other nodes, addresses or ports in its cluster.conf: make them the same on all nodes, "ocfs2 cluster register-cluster" reads the file again; the log of node 11 says what differs',
      );
      expect(a.log()).toMatch(/node 12 has another cluster\.conf: 12=10\.77\.0\.12:7778 12=10\.77\.0\.12:7777$/m);
    }, 60_000);

    test("a node that cannot be reached", async () => {
      const conf = text.replace("10.77.0.11", "10.77.0.99");
      expect(await mount({ node: b(), conf, env: ["O2CB_IDLE_TIMEOUT_MS=4000"] })).toMatch(
        new RegExp(
          `^IMAGE: node ${a.name} \\(11\\) at 10.77.0.99:7777 has the volume, but cannot be reached.*: check that it runs with this cluster.conf, and the network and firewalls between it and node ${b()} \\(12\\) at 10.77.0.12:7777$`,
        ),
      );
    }, 60_000);
  });
});
