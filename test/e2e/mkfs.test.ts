/** `ocfs2 mkfs` as a user meets it: what it prints, what it asks, how it ends. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { findSuper } from "../../src/tools/read_super.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { debugfs, fsckClean } from "../support/judges.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, type Ran, sh, trySh } from "../support/sh.ts";

const dir = tempDir("ocfs2-mkfs-cli");
let image = "";
let images = 0;
beforeEach(() => {
  image = join(dir, `image${images++}`);
  sparseFile(image, 300);
});

const ocfs2 = (args: readonly string[], input = ""): Ran =>
  trySh([join(repoRoot, "bin", "ocfs2"), "mkfs", ...args], { input });

const noTools = missing("fsck.ocfs2", "debugfs.ocfs2").length > 0;
if (noTools) console.warn("SKIPPED: what fsck.ocfs2 and debugfs.ocfs2 say of a new volume: they are not installed");

describe("a new volume", () => {
  test.skipIf(noTools)("is clean, with the label and the uuid that were given", async () => {
    const uuid = "2A4D1C581FAA42A1A41D26EFC90C1315";
    const ran = ocfs2(["-M", "local", "-L", "über", "-U", uuid, image]);
    expect(ran.status).toBe(0);
    expect(ran.stderr).toMatch(/WARNING.*UUID/s);
    expect(ran.stdout).toContain("Journal size: 16777216\nNode slots: 1\n");
    expect(ran.stdout).toMatch(/Writing superblock: done\nocfs2 mkfs successful\n\n$/);
    expect(ran.stdout + ran.stderr).not.toContain("\r");
    await fsckClean(image);
    const stats = await debugfs(image, "stats");
    expect(stats).toContain(`UUID: ${uuid}`);
    expect(stats).toContain("Label: über");
  });

  test.skipIf(noTools)("takes the blocks that were asked for", async () => {
    expect(ocfs2(["-q", "-b", "1K", image, "200000"]).status).toBe(0);
    await fsckClean(image);
    expect(await debugfs(image, "stat //global_bitmap")).toContain("Bitmap Total: 50000 ");
  });

  test("takes no space that it does not need", () => {
    expect(ocfs2(["-q", "-N", "4", image]).status).toBe(0);
    expect(statSync(image).blocks * 512).toBeLessThan(512 * 1024);
  });

  test("quiet says nothing; json says it all, and nothing else", () => {
    expect(ocfs2(["-q", image])).toEqual({ status: 0, stdout: "", stderr: "" });
    const ran = ocfs2(["--json", "-F", "-N", "3", "-L", "x", image]);
    expect(ran.stderr).toBe("");
    expect(JSON.parse(ran.stdout)).toMatchObject({
      device: image,
      dry_run: false,
      label: "x",
      max_slots: 3,
      block_size: 1024,
      cluster_size: 4096,
      clusters: 76800,
      journal_bytes: 16777216,
      cluster: null,
    });
    const cluster = JSON.parse(
      ocfs2(["--json", "-n", "--cluster-stack=o2cb", "--cluster-name=a", "--global-heartbeat", image]).stdout,
    );
    expect(cluster.cluster).toEqual({ stack: "o2cb", name: "a", flags: 1 });
    expect(cluster.features).toContain("clusterinfo");
  });

  test("a dry run tells and writes nothing", () => {
    const ran = ocfs2(["-n", "-T", "mail", image]);
    expect(ran.status).toBe(0);
    expect(ran.stdout).toMatch(/^Dry run\nCluster stack: classic o2cb\nFilesystem Type of mail\n/);
    expect(statSync(image).blocks).toBe(0);
  });

  test("the version", () =>
    expect(ocfs2(["-V"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^ocfs2 mkfs \d/) }));
});

describe("a volume that is there", () => {
  beforeEach(() => void ocfs2(["-q", "-L", "first", image]));
  const label = (): string => {
    const bytes = readFileSync(image).subarray(0, 1 << 20);
    return findSuper((off, len) => bytes.subarray(off, off + len))!.i_super.s_label;
  };

  test.each(["", "n\n", "\n"])("is kept on the answer %j", (input) => {
    const ran = ocfs2(["-L", "other", image], input);
    expect(ran.status).toBe(1);
    expect(ran.stderr).toContain("Proceed (y/N)");
    expect(label()).toBe("first");
  });
  test.each(["y\n", "Y\n", "yes\n"])("is overwritten on the answer %j", (input) => {
    expect(ocfs2(["-q", "-L", "other", image], input).status).toBe(0);
    expect(label()).toBe("other");
  });
  test.each(["-F", "-x"])("is overwritten without a question with %s", (flag) => {
    const ran = ocfs2(["-q", flag, "-L", "other", image]);
    expect(ran).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(label()).toBe("other");
  });
  test.skipIf(noTools)("leaves nothing behind in a new one", async () => {
    expect(ocfs2(["-q", "-F", "-b", "4K", "-C", "64K", "-N", "1", "--nodiscard", image]).status).toBe(0);
    await fsckClean(image);
  });
});

describe("what goes wrong ends with 1 and one line", () => {
  test.each<[string[], RegExp]>([
    [["-b", "7"], /^ocfs2 mkfs: block size 7 is not valid: [^\n]+\n$/],
    [["--fs-features=warp"], /^ocfs2 mkfs: unknown feature "warp"[^\n]+\n$/],
    [["-N", "255"], /^ocfs2 mkfs: [^\n]+enlarge[^\n]+\n$/],
    [["-J", "size=500M"], /^ocfs2 mkfs: [^\n]+do not fit[^\n]+\n$/],
  ])("%j", (args, message) => {
    const ran = ocfs2([...args, image]);
    expect(ran.status).toBe(1);
    expect(ran.stdout).toBe("");
    expect(ran.stderr).toMatch(message);
    expect(statSync(image).blocks).toBe(0);
  });
  test("no device, an unknown option, a device that is not there", () => {
    expect(ocfs2([]).status).toBe(1);
    expect(ocfs2(["--warp", image])).toMatchObject({ status: 1, stderr: expect.stringContaining("--warp") });
    expect(ocfs2([join(dir, "none")])).toMatchObject({ status: 1, stderr: expect.stringContaining("truncate -s") });
  });
});

const noLoop =
  process.getuid?.() !== 0 || !existsSync("/dev/loop-control") || missing("losetup", "mkfs.ext4", "mkswap").length > 0;
if (noLoop) console.warn("SKIPPED: mkfs on loop devices: needs root, /dev/loop-control, losetup, mkfs.ext4 and mkswap");

describe.skipIf(noLoop)("a block device", () => {
  let loop = "";
  let detach: () => void;
  beforeEach(() => {
    loop = sh(["losetup", "-f", "--show", image]).trim();
    const name = loop;
    detach = atExit(() => trySh(["losetup", "-d", name]));
    return () => detach();
  });

  test.skipIf(noTools)("is formatted, and its file is not meanwhile", async () => {
    expect(ocfs2(["-q", "-M", "local", loop]).status).toBe(0);
    await fsckClean(loop);
    const ran = ocfs2([image]);
    expect(ran.status).toBe(1);
    expect(ran.stderr).toMatch(/is behind \/dev\/loop\d+/);
  });

  test("that is read-only is said to be, and so is a file system without room for the image", () => {
    sh(["blockdev", "--setro", loop]);
    const ran = ocfs2(["-q", "-x", loop]);
    // It would stay with the device, whatever file that is over next.
    sh(["blockdev", "--setrw", loop]);
    expect(ran).toMatchObject({
      status: 1,
      stderr: `ocfs2 mkfs: ${loop} is read-only; make it writable with "blockdev --setrw ${loop}"\n`,
    });
    const full = tempDir("ocfs2-mkfs-full");
    const script = 'mount -t tmpfs -o size=32k tmpfs "$0" && truncate -s 300M "$0/image" && "$@"';
    const [node, bin, small] = [process.execPath, join(repoRoot, "bin", "ocfs2"), join(full, "image")];
    expect(trySh(["unshare", "-m", "sh", "-c", script, full, node, bin, "mkfs", "-q", "-N", "8", small])).toMatchObject(
      {
        status: 1,
        stderr: `ocfs2 mkfs: ${small} cannot be written, and holds no volume now: it is on a file system that is full\n`,
      },
    );
  });

  test("with swap space is left alone", () => {
    sh(["mkswap", loop], { stdio: "ignore" });
    expect(ocfs2([loop])).toMatchObject({ status: 1, stderr: expect.stringMatching(/carries swap space/) });
  });

  test("with a mounted ext4 is left alone, and without the mount as well", () => {
    sh(["mkfs.ext4", "-q", loop]);
    const at = tempDir("ocfs2-mkfs-mnt");
    sh(["mount", loop, at]);
    const umount = atExit(() => trySh(["umount", at]));
    const mounted = ocfs2([loop]);
    umount();
    expect(mounted).toMatchObject({
      status: 1,
      stderr: expect.stringContaining(`is mounted on ${at}; unmount it first`),
    });
    expect(ocfs2([loop])).toMatchObject({ status: 1, stderr: expect.stringMatching(/carries an ext2, ext3 or ext4/) });
    expect(ocfs2(["-q", "-F", loop])).toMatchObject({ status: 0, stderr: expect.stringContaining("warning") });
  });
});
