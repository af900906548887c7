/**
 * Our debugfs beside debugfs.ocfs2, on volumes of many kinds with everything in them that a volume can have: the same text,
 * but where the classic tool is wrong. And on damaged ones: an answer, never a crash.
 */
import { closeSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Volume } from "../../src/api/index.ts";
import { Dinode, ExtentBlock, ExtentList, ExtentRec, GroupDesc } from "../../src/format/disk/index.ts";
import { seededRandom } from "../../src/lib/clock.ts";
import { DebugfsError, newSession, runLine } from "../../src/tools/debugfs/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { missing, run, runAsync, sh } from "../support/sh.ts";

/** What ours prints for a command, its error as the last line. */
async function ours(image: string, command: string, json = false): Promise<string> {
  let text = "";
  const cat = join(tempDir("ocfs2-cat"), "out");
  const fd = openSync(cat, "w");
  const s = newSession((line) => {
    text += `${line}\n`;
  }, fd);
  s.open(image, 0);
  try {
    await runLine(s, command, json);
  } catch (err) {
    if (!(err instanceof DebugfsError)) throw err;
    text += `${err.message}\n`;
  } finally {
    s.close();
    closeSync(fd);
  }
  return text + readFileSync(cat, "utf8");
}

async function theirs(image: string, command: string): Promise<string> {
  const { stdout, stderr } = await runAsync(["debugfs.ocfs2", "-n", "-R", command, image]);
  return stdout + stderr;
}

/** Files of all kinds: small, large, in many pieces, shared, with attributes; links; a long directory. */
async function fill(image: string, nocluster: boolean): Promise<void> {
  const v = await Volume.open(image, { nocluster, uid: 3, gid: 4 });
  const p = v.promises;
  await p.mkdir("/dir/sub", { recursive: true });
  await p.writeFile("/dir/small", "hello\n", { mode: 0o6751 });
  await p.writeFile("/dir/big", Buffer.alloc(3_000_000, 65));
  await p.symlink("small", "/dir/fast");
  await p.symlink("x/".repeat(1000), "/dir/slow");
  await p.link("/dir/small", "/dir/sub/other name");
  await p.mkdir("/many");
  for (let i = 0; i < 400; i++) await p.writeFile(`/many/file-number-${i}`, "");
  const h = await p.open("/dir/sparse", "w");
  for (let i = 0; i < 300; i++) await h.write("x", i * 300_000);
  await h.close();
  await p.utimes("/dir/small", 1, 2_000_000_000.5);
  try {
    await p.setxattr("/dir/small", "user.small", "value");
    await p.setxattr("/dir/small", "user.large", Buffer.alloc(5000, 66));
    for (let i = 0; i < 40; i++) await p.setxattr("/dir/big", `user.attr${i}`, "v".repeat(100));
  } catch (err) {
    expect((err as NodeJS.ErrnoException).code).toMatch(/EOPNOTSUPP|ENOTSUP/);
  }
  await p.copyFile("/dir/big", "/dir/clone");
  await v.close();
}

const COMMANDS = [
  ...["stats", "stats -h", "stat /", "stat //", "stat /dir", "stat /dir/small", "stat /dir/big", "stat /dir/fast"],
  ...["stat /dir/slow", "stat /dir/sparse", "stat -T /dir/sparse", "stat /many", "stat <2>", "ls /dir", "ls -l /dir"],
  ...["ls -l //", "ls /many", "ls -l /dir/sub", "cat /dir/small", "stat //global_bitmap", "stat //global_inode_alloc"],
  ...["stat //inode_alloc:0000", "stat //extent_alloc:0000", "stat //local_alloc:0000", "stat //truncate_log:0000"],
  ...["stat //journal:0000", "stat //slot_map", "stat //heartbeat", "stat //bad_blocks", "xattr -v /dir/small"],
  ...["xattr -v /dir/big", "xattr /dir/big", "xattr /dir", "refcount -e /dir/big", "refcount /dir", "slotmap", "hb"],
  ...[
    "frag /dir/sparse",
    "frag /dir/big",
    "frag /dir",
    "frag //journal:0000",
    "icheck 0 3 10 5000 9000 40000",
    "dx_dump /many",
  ],
  ...["stat_sysdir", "bmap /dir/big 3", "bmap /dir/sparse 1", "bmap /dir/sparse 0", "encode /dir/small"],
  ...[
    "encode //slot_map",
    "curdev",
    "stat /none",
    "stat /none/x",
    "stat",
    "ls",
    "ls /dir/small",
    "cat /dir",
    "nonsense",
  ],
  ...["dirblocks /many", "dx_space /many", "logdump 0", "logdump 99", "locate <9>", "findpath <10>"],
];

/** Leaves out of both what one of them is wrong about. */
function agreed(command: string, text: string): string[] {
  let lines = text.split("\n");
  if (/^(dirblocks|dx_space)/.test(command))
    // debugfs.ocfs2 sums up the trailer alone instead of the block that it ends.
    lines = lines.filter((line) => !line.includes("**FAILED CHECKSUM**"));
  if (command.startsWith("logdump"))
    // It prints the bytes of a UUID as signed, and takes copies of directory blocks for data.
    return text
      .replace(/^\tUUID: .*$/gm, "")
      .split("\n\n")
      .filter((block) => !/Dirblock|Unknown -- Probably Data/.test(block));
  if (/is not indexed/.test(text) || (command.startsWith("dx_") && text === "")) return ["not indexed"];
  return lines.map((line) => (/is not a directory|^(ls|cat|refcount|logdump): /.test(line) ? "refused" : line));
}

const KINDS: [name: string, args: string[], nocluster?: boolean][] = [
  ["default", []],
  ["all features", ["-b", "1K", "-C", "4K", "--fs-features=refcount,xattr,indexed-dirs,metaecc,discontig-bg"]],
  ["512-byte blocks", ["-b", "512", "-C", "4K", "-N", "3"]],
  ["old format", ["-b", "4K", "-C", "32K", "--fs-feature-level=max-compat"]],
  [
    "clustered",
    ["-M", "cluster", "--cluster-stack=o2cb", "--cluster-name=music", "--global-heartbeat", "-N", "4"],
    true,
  ],
];

describe.skipIf(missing("mkfs.ocfs2", "debugfs.ocfs2").length > 0)("debugfs", () => {
  for (const [name, args, nocluster] of KINDS) {
    describe(name, () => {
      const image = join(tempDir("ocfs2-debugfs"), "image");
      beforeAll(async () => {
        mkfs(image, 300, ["-L", "a label", ...args]);
        await fill(image, nocluster ?? false);
      });

      test("prints what debugfs.ocfs2 prints", async () => {
        for (const command of COMMANDS)
          expect
            .soft(agreed(command, await ours(image, command)), command)
            .toEqual(agreed(command, await theirs(image, command)));
      });

      test("prints what it points at", async () => {
        const numbers = (text: string, what: RegExp): string[] => [...text.matchAll(what)].map((m) => m[1]!);
        const at = (command: string, text: string, what: RegExp): string[] =>
          numbers(text, what).map((n) => `${command} <${n}>`);
        const commands = [
          ...at("extent", await ours(image, "stat /dir/sparse"), /Blknum: (\d+)/g).slice(0, 3),
          ...at("group", await ours(image, "stat //global_bitmap"), /^\t\d+ +\d+ +\d+ +\d+ +(\d+)$/gm).slice(0, 2),
          ...at("grpextents", await ours(image, "stat //inode_alloc:0000"), /^\t\d+ +\d+ +\d+ +\d+ +(\d+)$/gm),
          ...at("dx_root", await ours(image, "stat /many"), /Indexed Tree Root: (\d+)/g),
          ...at("dx_leaf", await ours(image, "dx_dump /many"), /Dir Index Leaf: (\d+)/g).slice(0, 2),
          ...at("locate", await ours(image, "ls /many"), /^\t(\d+)/gm).slice(4, 6),
          ...at("locate", await ours(image, "ls -l /dir"), /^\t(\d+).* small$/gm),
        ];
        expect(commands.length).toBeGreaterThan(4);
        for (const command of commands)
          expect.soft(await ours(image, command), command).toBe(await theirs(image, command));
      });

      test("copies files and trees out as they are", async () => {
        const [a, b] = [tempDir("ocfs2-rdump"), tempDir("ocfs2-rdump")];
        await ours(image, `rdump /dir ${a}`);
        await theirs(image, `rdump /dir ${b}`);
        const list = (dir: string) =>
          (readdirSync(dir, { recursive: true }) as string[])
            .sort()
            .map((f) => [f, statSync(join(dir, f), { throwIfNoEntry: false })?.mode]);
        expect(list(join(a, "dir"))).toEqual(list(join(b, "dir")));
        expect(readFileSync(join(a, "dir/big")).equals(Buffer.alloc(3_000_000, 65))).toBe(true);
        expect(readFileSync(join(a, "dir/sparse")).equals(readFileSync(join(b, "dir/sparse")))).toBe(true);
      });

      test("has JSON for what is a structure", async () => {
        expect(JSON.parse(await ours(image, "stats", true))).toMatchObject({ s_label: "a label" });
        expect(JSON.parse(await ours(image, "stat /dir/small", true))).toMatchObject({ i_size: 6, i_links_count: 2 });
        const names = JSON.parse(await ours(image, "ls /dir/sub", true)).map((e: { name: string }) => e.name);
        expect(names).toEqual([".", "..", "other name"]);
        expect(await ours(image, "frag /dir", true)).toContain("no JSON form");
        const root = JSON.parse(await ours(image, "stats", true)).s_root_blkno;
        expect(await ours(image, `struct dinode <${root}>`)).toMatch(new RegExp(`i_blkno +${root}\n`));
        expect(await ours(image, "struct nothing 2")).toContain("no structure nothing");
      });
    });
  }

  test("answers on damaged volumes", async () => {
    const image = join(tempDir("ocfs2-debugfs"), "image");
    mkfs(image, 64, ["-b", "1K", "-C", "4K"]);
    await fill(image, false).catch(() => {});
    const whole = readFileSync(image);
    const random = seededRandom(11);
    for (let i = 0; i < 25; i++) {
      const bytes = Buffer.from(whole);
      // Metadata lies in the first quarter; the super block stays.
      for (let n = 0; n < 400; n++) {
        const at = 4096 + (random.u32() % (bytes.length >> 2));
        bytes[at] = random.u32();
      }
      writeFileSync(image, bytes);
      for (const command of COMMANDS) if (!command.startsWith("logdump")) await ours(image, command);
    }
  });

  describe("says what is wrong with a volume that was made to mislead it", () => {
    const image = join(tempDir("ocfs2-debugfs"), "image");
    const BS = 1024;
    let whole: Buffer;
    beforeAll(async () => {
      mkfs(image, 64, ["-b", "1K", "-C", "4K"]);
      const v = await Volume.open(image, { nocluster: true });
      await v.promises.mkdir("/dir");
      await v.promises.symlink("x".repeat(40), "/dir/name-a");
      await v.promises.writeFile("/dir/name-b", "not yours\n");
      const h = await v.promises.open("/deep", "w");
      for (let i = 0; i < 300; i++) await h.write("x", i * 9000);
      await h.close();
      await v.close();
      whole = readFileSync(image);
    });
    const changed = (change: (bytes: Buffer) => void): void => {
      const bytes = Buffer.from(whole);
      change(bytes);
      writeFileSync(image, bytes);
    };
    const number = async (command: string, what: RegExp): Promise<number> => {
      writeFileSync(image, whole);
      return Number(what.exec(await ours(image, command))![1]);
    };

    test("a chain of groups without an end", async () => {
      const group = await number("stat //global_bitmap", /^\t0 +\d+ +\d+ +\d+ +(\d+)$/m);
      changed((b) => b.writeBigUInt64LE(BigInt(group), group * BS + GroupDesc.fields.bg_next_group.off));
      const expected = new RegExp(`: the chain from block ${group} comes back to block ${group}\n$`);
      for (const command of ["stat //global_bitmap", `group <${group}>`, `grpextents <${group}>`, "stat_sysdir"])
        expect(await ours(image, command)).toMatch(expected);
    });

    test("a tree that leads back into itself", async () => {
      const block = await number("stat /deep", /Blknum: (\d+)/);
      const list = block * BS + ExtentBlock.fields.h_list.off;
      changed((b) => {
        b.writeUInt16LE(1, list + ExtentList.fields.l_tree_depth.off);
        b.writeBigUInt64LE(BigInt(block), list + ExtentList.size + ExtentRec.fields.e_blkno.off);
      });
      expect(await ours(image, "stat /deep")).toMatch(/: extent block \d+ is in one tree twice\n$/);
    });

    test("a slot map, heartbeat or journal as large as no disk", async () => {
      for (const [name, command] of [
        ["slot_map", "slotmap"],
        ["heartbeat", "hb"],
        ["journal:0000", "logdump 0"],
      ]) {
        const ino = await number(`stat //${name}`, /Inode: (\d+)/);
        changed((b) => b.writeBigUInt64LE(1n << 50n, ino * BS + Dinode.fields.i_size.off));
        expect(await ours(image, command!)).toMatch(/1125899906842624 bytes/);
      }
    });

    test("a name that is a link to elsewhere and a file: what lies elsewhere stays as it is", async () => {
      const dir = tempDir("ocfs2-rdump");
      const victim = join(tempDir("ocfs2-victim"), "victim");
      expect(victim.length).toBeLessThan(200);
      writeFileSync(victim, "mine\n");
      const link = await number("stat /dir/name-a", /Inode: (\d+)/);
      changed((b) => {
        for (let at = b.indexOf("name-b"); at >= 0; at = b.indexOf("name-b", at)) b.write("name-a", at);
        b.write(victim, link * BS + Dinode.fields.i_symlink.off);
        b.writeBigUInt64LE(BigInt(victim.length), link * BS + Dinode.fields.i_size.off);
      });
      expect(await ours(image, `rdump /dir ${dir}`)).toMatch(/^rdump: /m);
      expect(readFileSync(victim, "utf8")).toBe("mine\n");
    });
  });

  test("finds a volume by a backup of its super block", async () => {
    const image = join(tempDir("ocfs2-debugfs"), "image");
    mkfs(image, 1200, ["-b", "4K"]);
    sh(["dd", "if=/dev/zero", `of=${image}`, "bs=4096", "seek=2", "count=1", "conv=notrunc", "status=none"]);
    const s = newSession(() => {}, 1);
    expect(() => s.open(image, 0)).toThrow(/no OCFS2 super block/);
    s.open(image, 1);
    expect(s.v?.blocksize).toBe(4096);
    s.close();
    expect(() => s.open(image, 2)).toThrow(/no backup super block 2/);
  });

  test("is a command", async () => {
    const ocfs2 = join(import.meta.dirname, "../../bin/ocfs2");
    const image = join(tempDir("ocfs2-debugfs"), "image");
    mkfs(image, 64, ["-L", "word"]);
    const cli = (...args: string[]) => runAsync([process.execPath, ocfs2, "debugfs", ...args]);
    expect((await cli("-R", "stats", image)).stdout).toBe(await run(["debugfs.ocfs2", "-R", "stats", image]));
    expect(await cli("-R", "stat /none", image)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/not found '\/none'/),
    });
    expect(await cli("-R", "stats", "/no/such/device")).toMatchObject({
      status: 1,
      stderr: "ocfs2 debugfs: /no/such/device does not exist\n",
    });
    expect(await cli("-w", "-R", "stats", image)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/only reads/),
    });
    const commands = join(tempDir("ocfs2-debugfs"), "commands");
    writeFileSync(commands, "cd lost+found\nls\nquit\nnonsense\n");
    expect((await cli("-f", commands, image)).stdout).toMatch(/^debugfs: cd lost\+found\ndebugfs: ls\n\t\d+ .*\.\n/);
    const names = [
      "M0000000000000000004a2000000000",
      "W000000000000000000407a18f70d02",
      "N000000000000000500003214",
      "xyz",
    ];
    for (const words of [
      ...names.map((name) => ["-d", name]),
      ["-e", "M", "5", "0x3ec16ab1"],
      ["-e", "N", "12820", "5"],
    ])
      expect((await cli(...words)).stdout, words.join(" ")).toBe(await run(["debugfs.ocfs2", ...words]));
  });
});
