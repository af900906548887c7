/**
 * Attributes and ACLs between a Linux kernel and us, on one image by turns: what either writes the other reads, changes and
 * extends. Without it both could be of one mind with themselves and write different formats.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { DYN_FEATURES, maxInlineDataWithXattr } from "../../src/format/disk/index.ts";
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import { create, lookup, mkdir, nameOf, unlink } from "../../src/vfs/namespace.ts";
import type { Inode } from "../../src/volume/inode.ts";
import { dinodeOf, inodeLock } from "../../src/volume/inode.ts";
import { aclFromXattr, getxattr, listxattr, removexattr, setAcl, setxattr } from "../../src/volume/xattr/index.ts";
import "../../src/volume/refcount/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { debugfs } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { rigUnavailable, withKernelNode } from "../support/rig.ts";
import { missing, sh } from "../support/sh.ts";
import { fsck, openImage, type TestVolume, writeSparse } from "../support/volume.ts";
import { expectSound, findings } from "../support/xattr_judge.ts";

/** Names are ordered by a hash that begins with the volume's UUID: fixed, for a run that repeats. */
const UUID = ["-U", "6FBFCD84B6EE4C85B9A331DBFAF9D414"];

type Values = Map<string, string>;
/** Attributes in hex by file and name. */
type Files = Map<string, Values>;

const unavailable =
  rigUnavailable() ??
  (missing("setfattr", "setfacl", "mkfs.ocfs2").length > 0 ? "no attr, acl or ocfs2-tools" : undefined);
if (unavailable !== undefined) console.warn(`SKIPPED: attributes between the kernel and us: ${unavailable}`);

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The input of setfattr --restore, which is also the output of getfattr -d -e hex. */
function dump(files: Files): string {
  let out = "";
  for (const [file, values] of files) {
    out += `# file: o/${file}\n`;
    for (const [name, hex] of values) out += `${name}=0x${hex}\n`;
    out += "\n";
  }
  return out;
}

function parseDump(text: string): Files {
  const files: Files = new Map();
  let values: Values = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("# file: "))
      files.set(line.slice("# file: ".length).replace(/^\/?o\//, ""), (values = new Map()));
    else if (line !== "") {
      const [name = "", hex = ""] = line.split("=", 2) as [string, string?];
      values.set(name, hex.replace(/^0x/, ""));
    }
  }
  return files;
}

/** Names by number, in several namespaces, short and long, some not ASCII; values of all kinds of length. */
function someName(n: number, tails: boolean): string {
  const tail = !tails
    ? ""
    : n % 9 === 0
      ? "ü€".repeat(9)
      : n % 5 === 0
        ? "x".repeat(220)
        : n % 3 === 0
          ? "y".repeat(60)
          : "";
  return `${["user.", "trusted.", "security."][n % 3]}${n}${tail}`;
}
function someValue(random: Random): string {
  const len = [0, 1, 7, 79, 80, 81, 200, 4095, 5000, 30, 30, 60][random.u32() % 12]!;
  const seed = random.u32();
  return hexOf(Uint8Array.from({ length: len }, (_, i) => seed + i * 7));
}

const COUNTS: [string, number][] = [
  ["few", 3],
  ["block", 12],
  ["many", 300],
  ["dir", 40],
];
const LIMIT = 65_536 * 2;
/** Bytes of files that the kernel keeps in the inode where the volume has inline data. */
const INLINE = [1, 100, 300, 560, 700, 1500, 3000, 3570, 3650];

/** Sets and removes at random; returns what changed, with "" for a removal. */
function churn(files: Files, random: Random, tails: boolean): Map<string, Map<string, string | null>> {
  const changes = new Map<string, Map<string, string | null>>();
  for (const [file, count] of COUNTS) {
    const values = files.get(file) ?? new Map<string, string>();
    files.set(file, values);
    const before = new Set(values.keys());
    const changed = new Map<string, string | null>();
    changes.set(file, changed);
    for (let i = 0; i < count; i++) {
      const name = someName(random.u32() % (count * 2), tails);
      if (random.u32() % 3 === 0 && values.has(name)) {
        values.delete(name);
        changed.delete(name);
        if (before.has(name)) changed.set(name, null);
      } else {
        const value = someValue(random);
        values.set(name, value);
        changed.set(name, value);
      }
    }
  }
  return changes;
}

const inodeAt = (v: TestVolume, path: string): Inode => {
  let ino = v.osb.geo.root_blkno;
  for (const part of path.split("/")) {
    const dir = ino;
    const found = v.osb.runSync((op) => lookup(op, dir, nameOf(part)));
    if (found === undefined) throw new Error(`no ${path}`);
    ino = found.ino;
  }
  return v.osb.inodes.get(ino);
};

const ACL = /^system\.posix_acl/;
function readAll(v: TestVolume, path: string): Values {
  const inode = inodeAt(v, path);
  const values: Values = new Map();
  for (const name of v.osb.runSync((op) => listxattr(op, inode)).filter((n) => !ACL.test(n)))
    values.set(name, hexOf(v.osb.runSync((op) => getxattr(op, inode, name))!));
  return values;
}

const sorted = (values: Values): [string, string][] => [...values].sort(([a], [b]) => (a < b ? -1 : 1));
function expectSame(got: Values | undefined, want: Values, what: string): void {
  const [g, w] = [sorted(got ?? new Map()), sorted(want)];
  const differ = w.filter(([name, hex]) => got?.get(name) !== hex).map(([name]) => name);
  expect(differ, `${what}: other values`).toEqual([]);
  expect(
    g.map(([n]) => n),
    what,
  ).toEqual(w.map(([n]) => n));
}

const KINDS: [string, string[]][] = [
  ["4K blocks, metaecc", ["-b", "4K", "-C", "4K", "--fs-features=metaecc,inline-data"]],
  ["1K blocks, 4K clusters, metaecc", ["-b", "1K", "-C", "4K", "--fs-features=metaecc,noinline-data"]],
  ["512 blocks, 4K clusters, metaecc", ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=metaecc"]],
  ["2K blocks, 32K clusters", ["-b", "2K", "-C", "32K", "--fs-features=inline-data"]],
];

describe.skipIf(unavailable !== undefined)("attributes between the kernel and us", { timeout: 300_000 }, () => {
  // Every other kind, or with OCFS2_LONG all.
  test.each(KINDS.filter((_, i) => long || i % 2 === 0))("%s: by turns on one image", async (_, args) => {
    const dir = tempDir("ocfs2-xattr");
    const path = join(dir, "image");
    sh(["truncate", "-s", "160M", path]);
    sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", ...UUID, ...args, path]);
    const known = fsck(new Uint8Array(readFileSync(path))).findings;
    const random = seededRandom(args.length + 5);
    const files: Files = new Map();
    // In blocks of 512 bytes the kernel may refuse long ones: it makes room once, whether that is enough or not.
    const tails = !args.includes("512");

    /** The kernel makes the changes, and says what it then has. */
    const kernelTurn = async (changes: Map<string, Map<string, string | null>>, extra = ""): Promise<Files> => {
      const sets: Files = new Map();
      let removals = "";
      for (const [file, changed] of changes) {
        sets.set(file, new Map([...changed].filter((c): c is [string, string] => c[1] !== null)));
        for (const [name, hex] of changed) if (hex === null) removals += `setfattr -x '${name}' /o/${file} || exit 1\n`;
      }
      writeFileSync(join(dir, "sets"), dump(sets));
      writeFileSync(join(dir, "removals"), removals);
      const text = await withKernelNode(path, async (node) => {
        await node.run(
          [
            "cd / && for f in few block many; do [ -e /o/$f ] || echo x > /o/$f; done; mkdir -p /o/dir",
            `setfattr --restore=/host${dir}/sets || exit 1`,
            `. /host${dir}/removals`,
            extra,
          ].join("\n"),
        );
        return await node.run("cd /o && getfattr -d -m '^(user|trusted|security)' -e hex few block many dir");
      });
      return parseDump(text);
    };
    const verdict = (tolerate: RegExp | null): void => {
      const left = findings(new Uint8Array(readFileSync(path)), known);
      expect(left.filter((f) => !(tolerate?.test(f) ?? false))).toEqual([]);
    };
    /** The kernel leaves these sums stale when an attribute goes or shrinks; so they are no fault of ours. */
    const STALE = /XATTR_FREE_START_INVALID|XATTR_VALUE_LEN_INVALID/;

    // 1. The kernel writes, we read.
    const first = await kernelTurn(
      churn(files, random, tails),
      `for n in ${INLINE.join(" ")}; do head -c $n /dev/urandom > /o/in$n; done; md5sum /o/in* > /host${dir}/sums; mkdir /o/acl && setfacl -d -m u:1000:rwx,g:50:r,o::- /o/acl && umask 027 && echo > /o/acl/file && mkdir /o/acl/sub`,
    );
    for (const [file, values] of files) expectSame(first.get(file), values, `the kernel's own ${file}`);
    const image = new Uint8Array(readFileSync(path));
    let v = openImage(image);
    for (const [file, values] of files) expectSame(readAll(v, file), values, `kernel wrote ${file}`);
    const aclOf = (p: string, type: "access" | "default"): unknown => {
      const inode = inodeAt(v, p);
      const value = v.osb.runSync((op) => getxattr(op, inode, `system.posix_acl_${type}`));
      return value === undefined ? null : aclFromXattr(value);
    };
    const modeOf = (p: string): number => {
      const inode = inodeAt(v, p);
      return v.osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_mode & 0o7777);
    };
    expect(aclOf("acl", "default")).toEqual([
      { tag: 0x01, perm: 7, id: 0xffffffff },
      { tag: 0x02, perm: 7, id: 1000 },
      { tag: 0x04, perm: 5, id: 0xffffffff },
      { tag: 0x08, perm: 4, id: 50 },
      { tag: 0x10, perm: 7, id: 0xffffffff },
      { tag: 0x20, perm: 0, id: 0xffffffff },
    ]);
    expect(aclOf("acl/sub", "default")).toEqual(aclOf("acl", "default"));

    // 2. What we make below that directory has the ACLs and modes that the kernel gave its own.
    const cred = { uid: 0, gid: 0, umask: 0o27 };
    const acl_dir = inodeAt(v, "acl").ino;
    v.osb.runSync((op) => create(op, acl_dir, nameOf("ours"), 0o100666, cred));
    v.osb.runSync((op) => mkdir(op, acl_dir, nameOf("oursub"), 0o777, cred));
    for (const [ours, kernels] of [
      ["acl/ours", "acl/file"],
      ["acl/oursub", "acl/sub"],
    ] as const) {
      expect(aclOf(ours, "access")).toEqual(aclOf(kernels, "access"));
      expect(aclOf(ours, "access")).not.toBeNull();
      expect(aclOf(ours, "default")).toEqual(aclOf(kernels, "default"));
      expect(modeOf(ours)).toBe(modeOf(kernels));
    }
    const theirs = inodeAt(v, "acl/file");
    v.osb.runSync((op) =>
      setAcl(op, theirs, "access", [
        { tag: 1, perm: 7, id: 0xffffffff },
        { tag: 2, perm: 5, id: 1234 },
        { tag: 4, perm: 1, id: 0xffffffff },
        { tag: 0x10, perm: 6, id: 0xffffffff },
        { tag: 0x20, perm: 2, id: 0xffffffff },
      ]),
    );

    // 3. We change what the kernel wrote. Files whose data is in the inode make room for attributes, or have none.
    for (const n of INLINE) {
      const inode = inodeAt(v, `in${n}`);
      v.osb.runSync((op) => setxattr(op, inode, "user.ours", nameOf(`${n}`)));
      v.osb.runSync((op) => {
        const di = dinodeOf(op, inodeLock(op, inode));
        if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0)
          expect(di.i_data.id_count).toBe(maxInlineDataWithXattr(v.osb.geo.blocksize, di));
      });
    }
    for (const [file, changed] of churn(files, random, tails)) {
      const inode = inodeAt(v, file);
      for (const [name, hex] of changed)
        v.osb.runSync((op) =>
          hex === null ? removexattr(op, inode, name) : setxattr(op, inode, name, Buffer.from(hex, "hex")),
        );
    }
    for (const [file, values] of files) expectSame(readAll(v, file), values, `we changed ${file}`);
    const inos = new Map([...files.keys()].map((file) => [file, inodeAt(v, file).ino]));
    v.close();
    writeSparse(path, image);
    verdict(null);
    for (const [file, values] of files) {
      const text = await debugfs(path, `xattr -v <${inos.get(file)}>`);
      const listed = [...text.matchAll(/^\t#\d+ +\d +\d +(\d+) +(\d+) *$/gm)].map((m) => `${m[1]} ${m[2]}`);
      const want = [...values].map(([n, hex]) => `${Buffer.byteLength(n) - n.indexOf(".") - 1} ${hex.length / 2}`);
      expect(listed.sort(), `debugfs.ocfs2 xattr ${file}`).toEqual(want.sort());
    }

    // 4. The kernel reads what we wrote, and changes it; we read that.
    const second = await kernelTurn(
      churn(files, random, tails),
      [
        "getfacl -cnp /o/acl/file | grep -q user:1234:r-x || { echo 'not our ACL'; getfacl -np /o/acl/file; exit 1; }",
        "[ $(stat -c %a /o/acl/file) = 762 ] || exit 1",
        '[ "$(getfacl -cnp /o/acl/ours)" != "" ] || exit 1',
        `md5sum -c --quiet /host${dir}/sums && for n in ${INLINE.join(" ")}; do`,
        "  [ $(getfattr --only-values -n user.ours /o/in$n 2>/dev/null) = $n ] && cp /o/in$n /tmp/was || exit 1",
        "  head -c 120 /dev/zero | tee -a /tmp/was >> /o/in$n; cmp /tmp/was /o/in$n || exit 1",
        "  setfattr -n user.theirs -v $n /o/in$n || exit 1",
        "done",
        "chmod 640 /o/acl/ours && setfacl -b /o/acl/oursub",
      ].join("\n"),
    );
    for (const [file, values] of files) expectSame(second.get(file), values, `the kernel's ${file} after ours`);
    verdict(STALE);
    const after = new Uint8Array(readFileSync(path));
    v = openImage(after);
    for (const [file, values] of files) expectSame(readAll(v, file), values, `kernel changed ${file}`);
    for (const n of INLINE)
      expect(readAll(v, `in${n}`)).toEqual(
        new Map([
          ["user.ours", hexOf(nameOf(`${n}`))],
          ["user.theirs", hexOf(nameOf(`${n}`))],
        ]),
      );
    expect(modeOf("acl/ours")).toBe(0o640);
    expect(aclOf("acl/ours", "access")).toContainEqual({ tag: 0x10, perm: 4, id: 0xffffffff });
    expect(aclOf("acl/oursub", "access")).toBeNull();
    v.close();
    rmSync(dir, { recursive: true, force: true });
  });

  test("a volume that only we wrote: the kernel lists the same, and removes all of it", async () => {
    const dir = tempDir("ocfs2-xattr");
    mkdirSync(dir, { recursive: true });
    const path = join(dir, "image");
    sh(["truncate", "-s", "160M", path]);
    sh([
      "mkfs.ocfs2",
      "-q",
      "-F",
      "-M",
      "local",
      "-b",
      "512",
      "-C",
      "4K",
      "-J",
      "size=4M",
      "--fs-features=metaecc",
      path,
    ]);
    const image = new Uint8Array(readFileSync(path));
    const known = fsck(image).findings;
    const v = openImage(image);
    const cred = { uid: 0, gid: 0, umask: 0 };
    const files: Files = new Map([["f", new Map()]]);
    const { ino } = v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, nameOf("f"), 0o100644, cred));
    const random = seededRandom(1);
    for (let i = 0; i < 300; i++) {
      const name = `user.${i}${"n".repeat(150)}`;
      const hex = i === 0 ? "ab".repeat(65_536) : someValue(random);
      v.osb.runSync((op) => setxattr(op, v.osb.inodes.get(ino), name, Buffer.from(hex, "hex")));
      files.get("f")!.set(name, hex);
    }
    v.close();
    expect(findings(image, known, true)).toEqual([]);
    writeSparse(path, image);
    const text = await withKernelNode(path, async (node) => {
      // Long names in long lists: the list must fit into 64 KiB, so the kernel is asked for each.
      const names = [...files.get("f")!.keys()];
      writeFileSync(join(dir, "get"), names.map((n) => `getfattr -e hex -n '${n}' f\n`).join(""));
      writeFileSync(join(dir, "drop"), names.map((n) => `setfattr -x '${n}' f || exit 1\n`).join(""));
      const got = await node.run(`cd /o && . /host${dir}/get`);
      await node.run(`cd /o && . /host${dir}/drop; rm f`);
      return got;
    });
    expect(text.length).toBeGreaterThan(LIMIT);
    const got: Values = new Map();
    for (const values of parseDump(text.replaceAll("# file: f", "# file: o/f")).values())
      for (const [n, hex] of values) got.set(n, hex);
    for (const m of text.matchAll(/^(user\.[^=]+)=?(?:0x)?([0-9a-f]*)$/gm)) got.set(m[1]!, m[2]!);
    expectSame(got, files.get("f")!, "the kernel's view of our file");
    expectSound(new Uint8Array(readFileSync(path)), known);
    rmSync(dir, { recursive: true, force: true });
  });

  test.each([
    ["4K blocks, metaecc", ["-b", "4K", "-C", "4K", "--fs-features=refcount,metaecc"]],
    ...(long ? [["1K blocks, 4K clusters", ["-b", "1K", "-C", "4K", "--fs-features=refcount"]] as const] : []),
  ] as const)(
    "%s: values that a reflink shares are read, replaced and removed; the other file keeps its own",
    async (_, args) => {
      const dir = tempDir("ocfs2-xattr");
      const path = join(dir, "image");
      sh(["truncate", "-s", "160M", path]);
      sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", ...UUID, ...args, path]);
      const known = fsck(new Uint8Array(readFileSync(path))).findings;
      const values: Values = new Map();
      for (let i = 0; i < 60; i++)
        values.set(
          `user.${i}${"n".repeat(i * 2)}`,
          hexOf(new Uint8Array(i % 4 === 0 ? 12_000 + i : 40 + i * 3).fill(i)),
        );
      const big = [...values.keys()].filter((n) => values.get(n)!.length > 200);
      writeFileSync(join(dir, "sets"), dump(new Map([["src", values]])));
      // OCFS2_IOC_REFLINK by its number and a struct of two path pointers and a flag.
      const reflink = (to: string): string =>
        `perl -e '$o="/o/src";$n="${to}";open(F,"<",$o);$a=pack("QQQ",unpack("Q",pack("p",$o)),unpack("Q",pack("p",$n)),1);ioctl(F,0x40186f04,$a) or die "$!"'`;
      await withKernelNode(path, (node) =>
        node.run(
          [
            "set -e",
            "head -c 100000 /dev/urandom > /o/src",
            `cd / && setfattr --restore=/host${dir}/sets`,
            ...["/o/a", "/o/b", "/o/c"].map(reflink),
          ].join("\n"),
        ),
      );
      const image = new Uint8Array(readFileSync(path));
      const v = openImage(image);
      for (const file of ["src", "a", "b", "c"]) expectSame(readAll(v, file), values, file);
      // Replaced by long and by short values, removed, and the whole file deleted.
      const a: Values = new Map(values);
      const b: Values = new Map(values);
      const [file_a, file_b] = [inodeAt(v, "a"), inodeAt(v, "b")];
      big.forEach((name, i) => {
        const hex = i % 2 === 0 ? "cd".repeat(15_000) : "ef";
        a.set(name, hex);
        v.osb.runSync((op) => setxattr(op, file_a, name, Buffer.from(hex, "hex")));
        b.delete(name);
        v.osb.runSync((op) => removexattr(op, file_b, name));
      });
      v.osb.runSync((op) => unlink(op, v.osb.geo.root_blkno, nameOf("c")));
      while (v.osb.pump());
      for (const [file, want] of [
        ["src", values],
        ["a", a],
        ["b", b],
      ] as const)
        expectSame(readAll(v, file), want, `${file} afterwards`);
      v.close();
      expectSound(image, known);
      writeSparse(path, image);
      const text = await withKernelNode(path, (node) =>
        node.run("cd /o && [ ! -e c ] && getfattr -d -m user -e hex src a b"),
      );
      const got = parseDump(text);
      for (const [file, want] of [
        ["src", values],
        ["a", a],
        ["b", b],
      ] as const)
        expectSame(got.get(file), want, `the kernel's ${file}`);
      rmSync(dir, { recursive: true, force: true });
    },
  );
});
