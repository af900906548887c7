/** Commands that neither mount nor run anything, beside the classic tools on the same file or device: cluster, mounted, info. */
import { execFile } from "node:child_process";
import { readFileSync, realpathSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { withLockOf } from "../../src/cli/lock_file.ts";
import { confLockPath } from "../../src/cli/run_dir.ts";
import { within } from "../../src/cli/within.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { ocfs2 } from "../support/mount.ts";
import { missing, type Ran, sh, trySh } from "../support/sh.ts";

function unless(...tools: string[]): boolean {
  const lacking = missing(...tools);
  if (lacking.length > 0)
    console.warn(`SKIPPED: commands beside the classic ones: not installed: ${lacking.join(", ")}`);
  return lacking.length > 0;
}

const ours = (...args: string[]): Ran => trySh([process.execPath, ocfs2, ...args]);

function said(...args: string[]): string {
  const ran = ours(...args);
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  return ran.stdout;
}

describe.skipIf(unless("o2cb"))("ocfs2 cluster and o2cb on one cluster.conf", () => {
  const REGION = "77D95EF51C0149D2823674FCC162CF8B";
  const LISTS = ["list-cluster", "list-nodes", "list-heartbeats"].flatMap((list) => [
    [list, "web"],
    [list, "web", "--oneline"],
  ]);
  const conf = join(tempDir("ocfs2-o2cb"), "cluster.conf");
  const cluster = (...args: string[]): string => said("cluster", "--config-file", conf, ...args);
  const o2cb = (...args: string[]): string => sh(["o2cb", `--config-file=${conf}`, ...args]);
  const both = (): void => {
    for (const words of [["list-clusters"], ...LISTS]) expect(cluster(...words), words.join(" ")).toBe(o2cb(...words));
  };

  test("each reads what the other has written, and says the same of it", () => {
    expect(cluster("-v", "add-cluster", "web")).toBe("Added cluster 'web'\n");
    cluster("add-node", "web", "one", "--ip", "10.0.0.1");
    cluster("add-node", "web", "seven", "--ip", "10.0.0.7", "--number", "7", "--port", "7000");
    cluster("add-heartbeat", "web", REGION);
    cluster("heartbeat-mode", "web", "global");
    // Without --ip it is what the name resolves to.
    cluster("add-node", "web", "localhost");
    o2cb("add-node", "web", "nine", "--ip", "10.0.0.9");
    both();
    expect(cluster("list-nodes", "web", "--oneline")).toBe(
      "node: 0 one 10.0.0.1:7777 web\nnode: 7 seven 10.0.0.7:7000 web\nnode: 1 localhost 127.0.0.1:7777 web\nnode: 2 nine 10.0.0.9:7777 web\n",
    );
    const json = JSON.parse(cluster("list-cluster", "web", "--json")) as object;
    expect(json).toMatchObject({ name: "web", heartbeat_mode: "global", regions: [REGION] });

    cluster("remove-node", "web", "localhost");
    cluster("remove-heartbeat", "web", REGION);
    cluster("heartbeat-mode", "web", "local");
    both();
    cluster("remove-cluster", "web");
    expect([cluster("list-clusters"), readFileSync(conf, "utf8")]).toEqual(["", ""]);
    expect(ours("cluster", "--config-file", conf, "list-nodes", "web")).toMatchObject({
      status: 1,
      stderr: "ocfs2 cluster list-nodes: Unknown cluster 'web' (known: none)\n",
    });
  }, 120_000);
});

test("who changes cluster.conf waits for who is changing it, so that of two nodes none is lost", async () => {
  const conf = join(tempDir("ocfs2-at-once"), "cluster.conf");
  said("cluster", "--config-file", conf, "add-cluster", "web");
  const words = ["cluster", "--config-file", conf, "add-node", "web", "one", "--ip", "10.0.0.1"];
  const added = await withLockOf(confLockPath(realpathSync(conf)), async () => {
    const adding = promisify(execFile)(process.execPath, [ocfs2, ...words]);
    expect(await within(2000, adding, "waits")).toBe("waits");
    writeFileSync(
      conf,
      `${readFileSync(conf, "utf8")}\nnode:\n\tname = two\n\tnumber = 0\n\tcluster = web\n\tip_address = 10.0.0.2\n\tip_port = 7777\n`,
    );
    return { adding };
  });
  await added.adding;
  expect(said("cluster", "--config-file", conf, "list-nodes", "web", "--oneline")).toBe(
    "node: 0 two 10.0.0.2:7777 web\nnode: 1 one 10.0.0.1:7777 web\n",
  );
}, 60_000);

test("OCFS2_LOG: a mask that there is not is named", () => {
  const ran = trySh(["env", "OCFS2_LOG=DLM,NONE", process.execPath, ocfs2, "node", "status"]);
  expect(ran.stderr).toMatch(/^ocfs2: OCFS2_LOG: there is no mask NONE; there are TCP, .*NOTICE$/m);
});

describe("what the system refuses is said in words, with the path", () => {
  const dir = tempDir("ocfs2-words");
  const [volume, plain, conf] = [join(dir, "volume"), join(dir, "plain"), join(dir, "cluster.conf")];
  const no_folder = `${dir}/none does not exist: make the folder first`;
  const a_folder = `${dir} is a folder: name a block device or a file with a volume (df shows the device of a mount)`;
  beforeAll(() => {
    writeFileSync(plain, "no volume");
    writeFileSync(volume, "");
    truncateSync(volume, 64 << 20);
    said("mkfs", "-q", "-M", "local", volume);
    said("cluster", "--config-file", conf, "add-cluster", "web");
  });

  test.each<[string[], string]>([
    [["install-helper", "--dir", `${dir}/none`], `ocfs2 install-helper: ${no_folder}`],
    [["install-helper", "--dir", `${dir}/none`, "--remove"], `ocfs2 install-helper: ${no_folder}`],
    [["install-helper", "--dir", plain], `ocfs2 install-helper: ${plain} is not a folder`],
    [["install-helper", "--dir", ""], "ocfs2 install-helper: an empty name is no folder"],
    [["node", "start", "--dlmfs", `${dir}/none`], `ocfs2 node start: ${no_folder}`],
    [["node", "start", "--dlmfs", plain], `ocfs2 node start: ${plain} is not a folder`],
    [["node", "start", "--configfs", `${plain}/x`], `ocfs2 node start: ${plain}/x leads through what is no folder`],
    [["debugfs", "-R", `rdump / ${dir}/none`, volume], `rdump: ${no_folder}`],
    [["debugfs", "-R", `rdump / ${plain}`, volume], `rdump: ${plain} is not a folder`],
    [["debugfs", "-R", `dump //slot_map ${dir}/none/x`, volume], `dump: ${no_folder}`],
    [["debugfs", "-R", `dump //slot_map ${dir}`, volume], `dump: ${dir} is a folder`],
    [["debugfs", "-R", `fs_locks -f ${dir}/none`, volume], `fs_locks: ${dir}/none does not exist`],
    [["debugfs", "-f", `${dir}/none`, volume], `ocfs2 debugfs: ${dir}/none does not exist`],
    [["debugfs", "-R", "stats", `${dir}/none`], `ocfs2 debugfs: ${dir}/none does not exist`],
    [["debugfs", "-R", "stats", dir], `ocfs2 debugfs: ${a_folder}`],
    [["debugfs", "-R", `open ${dir}`], `open: ${a_folder}`],
    [["cluster", "--config-file", dir, "list-clusters"], `ocfs2 cluster list-clusters: ${dir} is a folder`],
    [["cluster", "--config-file", conf, "add-heartbeat", "web", dir], `ocfs2 cluster add-heartbeat: ${a_folder}`],
    [
      ["cluster", "--config-file", conf, "add-heartbeat", "web", plain],
      `ocfs2 cluster add-heartbeat: ${plain}: no OCFS2 super block found; "debugfs -s 1" tries a backup`,
    ],
  ])("%j", (words, line) => {
    expect(ours(...words)).toEqual({ status: 1, stdout: "", stderr: `${line}\n` });
  });

  /** debugfs's `cat` of the journal, with what is behind it in a pipe of the shell. */
  const cat = (behind: string): Ran =>
    trySh([
      "bash",
      "-c",
      `"$0" "$@" ${behind}; echo \${PIPESTATUS[0]} >&2`,
      process.execPath,
      ocfs2,
      "debugfs",
      "-R",
      "cat //journal:0000",
      volume,
    ]);

  test("what is printed waits for a reader that is slow, ends with one that has enough, and says when a disk is full", () => {
    // Reads when the pipe is full.
    const slow = `import array, fcntl, sys, termios, time
n = array.array("i", [0])
while n[0] < 65536: fcntl.ioctl(0, termios.FIONREAD, n); time.sleep(0.01)
print(len(sys.stdin.buffer.read()))`;
    expect(cat(`| python3 -c '${slow}'`)).toEqual({ status: 0, stdout: `${4 << 20}\n`, stderr: "0\n" });
    expect(cat("| head -c 1 | wc -c")).toEqual({ status: 0, stdout: "1\n", stderr: "0\n" });
    const full = "standard output is on a file system that is full";
    expect(cat("> /dev/full").stderr).toBe(`cat: ${full}\n1\n`);
    expect(trySh(["sh", "-c", '"$0" "$@" > /dev/full', process.execPath, ocfs2, "info", volume])).toMatchObject({
      status: 1,
      stderr: `ocfs2: ${full}\n`,
    });
  });
});

describe.skipIf(unless("mkfs.ocfs2", "mounted.ocfs2"))("what a volume is", () => {
  const image = join(tempDir("ocfs2-info"), "image");
  let uuid: string | undefined;
  beforeAll(() => {
    const options = ["-M", "cluster", "-b", "4K", "-C", "8K", "-N", "2", "-L", "things"];
    mkfs(image, 64, [...options, "--cluster-stack=o2cb", "--cluster-name=web"]);
    uuid = /UUID: ([0-9A-F]{32})/.exec(sh(["debugfs.ocfs2", "-R", "stats", image]))?.[1];
  });

  test("info: in words, as features alone, and as JSON", () => {
    const text = said("info", image);
    expect(text).toMatch(
      new RegExp(`^ *Label: things\n *UUID: ${uuid}\n *Block Size: 4096\nCluster Size: 8192\n *Node Slots: 2\n`),
    );
    const volume = JSON.parse(said("info", "--json", image)) as { features: string[] };
    expect(volume).toMatchObject({
      label: "things",
      uuid,
      blocksize: 4096,
      clustersize: 8192,
      slots: 2,
      clusters: 8192,
    });
    expect(said("info", "--fs-features", image).split(/\s+/).filter(Boolean)).toEqual(volume.features);
    expect(ours("info", "/dev/null").stderr).toMatch(/^ocfs2 info: \/dev\/null: [^\n]+\n$/);
    for (const command of ["info", "mounted"]) {
      expect(ours(command, "/nowhere")).toMatchObject({
        status: 1,
        stderr: `ocfs2 ${command}: /nowhere does not exist\n`,
      });
      expect(ours(command, "/tmp").stderr).toMatch(new RegExp(`^ocfs2 ${command}: /tmp is a folder: name [^\n]+\n$`));
    }
  });

  test.skipIf(process.getuid?.() !== 0)("mounted: as mounted.ocfs2 has it", () => {
    const device = sh(["losetup", "--find", "--show", image]).trim();
    try {
      const squeezed = (text: string): string => text.replaceAll(/ +/g, " ");
      for (const how of ["-d", "-f"])
        expect(squeezed(said("mounted", how, device))).toBe(squeezed(sh(["mounted.ocfs2", how, device])));
      expect(JSON.parse(said("mounted", "--json", device))).toEqual({
        volumes: [
          {
            device,
            stack: "o2cb",
            cluster: "web",
            global_heartbeat: false,
            uuid,
            label: "things",
            nodes: [],
            heartbeat_device: false,
          },
        ],
      });
      sh(["mkfs.ocfs2", "-q", "-F", "-x", "-H", device]);
      for (const how of ["-d", "-f"])
        expect(squeezed(said("mounted", how, device))).toBe(squeezed(sh(["mounted.ocfs2", how, device])));
      expect(ours("mount", "-o", "nocluster", device, tempDir("ocfs2-info"))).toMatchObject({
        status: 32,
        stderr: expect.stringContaining("a device for the global heartbeat, not a file system"),
      });
    } finally {
      sh(["losetup", "--detach", device]);
    }
  });
});
