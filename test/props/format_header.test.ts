/**
 * The tables of src/format against the kernel's own headers, as a C compiler sees them.
 *
 * Given gcc and a kernel source, when a generated C program prints offsetof and sizeof of every field, then each number
 * is the table's. A typing error in a table is otherwise found only by a wrong disk. The source is
 * /usr/src/linux-source-6.1.tar.xz, or what OCFS2_KERNEL_SOURCE names: such an archive or an unpacked tree.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as disk from "../../src/format/disk/index.ts";
import * as fuse from "../../src/format/fuse/index.ts";
import * as jbd2 from "../../src/format/jbd2/index.ts";
import { type AnyStruct, cName, type Field, type Fields } from "../../src/format/struct.ts";

const HEADERS = [
  "fs/ocfs2/ocfs2_fs.h",
  "fs/ocfs2/cluster/ocfs2_heartbeat.h",
  "fs/ocfs2/dir.h",
  "fs/quota/quota_tree.h",
  "include/linux/jbd2.h",
  "include/uapi/linux/fuse.h",
] as const;

const SOURCE = process.env["OCFS2_KERNEL_SOURCE"] ?? "/usr/src/linux-source-6.1.tar.xz";

function hasGcc(): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const missing = !hasGcc() ? "no gcc" : existsSync(SOURCE) ? "" : `no kernel source at ${SOURCE}`;
if (missing) console.warn(`SKIPPED: tables are not compared with the kernel's headers: ${missing}`);

/** Unpacking reads the whole archive, so the few headers are kept for the next run. */
function headerDir(): string {
  const st = statSync(SOURCE);
  if (st.isDirectory()) return SOURCE;
  const dir = join(tmpdir(), `ocfs2-headers-${HEADERS.length}-${st.size}-${Math.floor(st.mtimeMs)}`);
  if (!existsSync(dir)) {
    const fresh = mkdtempSync(`${dir}-`);
    const top = "linux-source-6.1";
    const names = HEADERS.map((h) => `${top}/${h}`);
    execFileSync("tar", ["-xJf", SOURCE, "-C", fresh, "--strip-components=1", "--occurrence=1", ...names]);
    try {
      renameSync(fresh, dir);
    } catch {
      return fresh; // another run was faster
    }
  }
  return dir;
}

const PRELUDE = `
#include <stdio.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <linux/types.h>
#include <linux/fs.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64; typedef int64_t s64;
typedef unsigned gfp_t; typedef unsigned short umode_t;
struct super_block { unsigned long s_blocksize; unsigned char s_blocksize_bits; };
#define DECLARE_FLEX_ARRAY(T, N) struct { struct { } empty_##N; T N[]; }
#define le16_to_cpu(x) (x)
#define le32_to_cpu(x) (x)
#define le64_to_cpu(x) (x)
#define fs_umode_to_ftype(m) (m)
#define inline
#pragma GCC diagnostic ignored "-Wunused-function"
#define F(name, type, path) printf("%s off %zu\\n%s size %zu\\n", name, offsetof(type, path), name, sizeof(((type *)0)->path))
#define T(name, type, path) printf("%s off %zu\\n%s size %zu\\n", name, offsetof(type, path), name, sizeof(((type *)0)->path[0]))
#define S(name, type) printf("%s sizeof %zu\\n", name, sizeof(type))
#define N(name, value) printf("%s value %lld\\n", name, (long long)(value))
`;

/** Where the kernel's members are inside a union that the tables flatten. */
const C_PATH: Readonly<Record<string, string>> = {
  "ocfs2_dinode.i_pad1": "id1.i_pad1",
  "ocfs2_dinode.i_rdev": "id1.dev1.i_rdev",
  "ocfs2_dinode.i_used": "id1.bitmap1.i_used",
  "ocfs2_dinode.i_total": "id1.bitmap1.i_total",
  "ocfs2_dinode.ij_flags": "id1.journal1.ij_flags",
  "ocfs2_dinode.ij_recovery_generation": "id1.journal1.ij_recovery_generation",
  "ocfs2_dinode.i_super": "id2.i_super",
  "ocfs2_dinode.i_lab": "id2.i_lab",
  "ocfs2_dinode.i_chain": "id2.i_chain",
  "ocfs2_dinode.i_list": "id2.i_list",
  "ocfs2_dinode.i_dealloc": "id2.i_dealloc",
  "ocfs2_dinode.i_data": "id2.i_data",
  "ocfs2_dinode.i_symlink": "id2.i_symlink",
  "ocfs2_xattr_block.xb_header": "xb_attrs.xb_header",
  "ocfs2_xattr_block.xb_root": "xb_attrs.xb_root",
};

/** Places where the tables differ from these headers on purpose: what C says instead, and why. */
const DIFFERS: Readonly<Record<string, { off?: number; size?: number; absent?: true; why: string }>> = {
  "ocfs2_group_desc.bg_contig_free_bits": {
    absent: true,
    why: "newer than Linux 6.1, in the low half of bg_reserved1",
  },
  "ocfs2_group_desc.bg_reserved1": { off: 0x14, size: 4, why: "the half that bg_contig_free_bits left" },
  "ocfs2_dir_entry.sizeof": { size: 267, why: "C counts 255 bytes of name, which is a tail here" },
  "fuse_init_out.unused": { off: 0x24, size: 28, why: "max_stack_depth and request_timeout took its start" },
};

function structsOf(module: Record<string, unknown>): AnyStruct[] {
  return Object.values(module).filter(
    (x): x is AnyStruct => typeof x === "object" && x !== null && "fields" in x && "order" in x,
  );
}

const isPad = (key: string): boolean => /^_pad/.test(key);

interface Group {
  readonly structs: readonly AnyStruct[];
  readonly constants: Record<string, unknown>;
  readonly headers: readonly string[];
  readonly includes: string;
}

let work = "";
let texts = new Map<string, string>();

/** Whether the header declares the structure, and the field in it. */
function declares(g: Group, s: string, field?: string): boolean {
  const all = g.headers.map((h) => texts.get(h)!).join("\n");
  const start = all.search(new RegExp(`struct ${s}\\s*\\{`));
  if (start < 0 || !field) return start >= 0;
  const body = all.slice(start, all.indexOf("\n}", start));
  return new RegExp(`\\b${field}\\b`).test(body);
}

const since = (s: string, field?: string): boolean => s in fuse.FUSE_SINCE || `${s}.${field}` in fuse.FUSE_SINCE;

/** Compiles and runs the program; every line is "name kind number". */
function ask(g: Group, lines: readonly string[]): Map<string, number> {
  const c = join(work, `${g.headers[0]!.replaceAll("/", "_")}.c`);
  writeFileSync(c, `${PRELUDE}\n${g.includes}\nint main(void) {\n${lines.join("\n")}\nreturn 0;\n}\n`);
  const exe = c.replace(/\.c$/, "");
  execFileSync("gcc", ["-w", "-std=gnu11", "-I", work, "-o", exe, c]);
  const out = execFileSync(exe, { encoding: "utf8" });
  return new Map(
    out
      .trim()
      .split("\n")
      .map((l) => {
        const m = /^(.*) (-?\d+)$/.exec(l)!;
        return [m[1]!, Number(m[2])];
      }),
  );
}

function compareStructs(g: Group, only?: (s: AnyStruct) => boolean): number {
  const lines: string[] = [];
  const want: { key: string; value: number }[] = [];
  for (const s of g.structs) {
    if (only && !only(s)) continue;
    if (!declares(g, s.name)) {
      expect(since(s.name), `${s.name} is in no header`).toBe(true);
      continue;
    }
    const type = `struct ${s.name}`;
    lines.push(`S("${s.name}", ${type});`);
    want.push({ key: `${s.name} sizeof`, value: DIFFERS[`${s.name}.sizeof`]?.size ?? s.size });
    for (const [key, f] of Object.entries(s.fields as Fields) as [string, Field][]) {
      if (isPad(key)) continue;
      const id = `${s.name}.${key}`;
      const d = DIFFERS[id];
      if (d?.absent) continue;
      if (!declares(g, s.name, cName(key))) {
        expect(since(s.name, key), `${id} is not in the header`).toBe(true);
        continue;
      }
      const path = C_PATH[id] ?? cName(key);
      lines.push(`${f.kind === "tail" && s !== disk.DirEntry ? "T" : "F"}("${id}", ${type}, ${path});`);
      want.push({ key: `${id} off`, value: d?.off ?? f.off });
      const size = f.kind === "tail" ? (s === disk.DirEntry ? disk.OCFS2_MAX_FILENAME_LEN : f.stride) : f.size;
      want.push({ key: `${id} size`, value: d?.size ?? size });
    }
  }
  const got = ask(g, lines);
  expect(Object.fromEntries(want.map((w) => [w.key, got.get(w.key)]))).toEqual(
    Object.fromEntries(want.map((w) => [w.key, w.value])),
  );
  return want.length;
}

/** OCFS2_ECOMPR_FL names a macro that newer uapi headers lack; the minor version is ours, not the header's. */
const NOT_COMPARED = new Set(["OCFS2_ECOMPR_FL", "FUSE_KERNEL_MINOR_VERSION"]);

function compareConstants(g: Group): number {
  const all = g.headers.map((h) => texts.get(h)!).join("\n");
  const names = Object.entries(g.constants).filter(
    ([k, v]) =>
      typeof v === "number" && !NOT_COMPARED.has(k) && new RegExp(`(#\\s*define\\s+|^\\s+)${k}\\b`, "m").test(all),
  );
  const got = ask(
    g,
    names.map(([k]) => `N("${k}", ${k});`),
  );
  // C's 1 << 31 is negative.
  const unsigned = (v: number): number => (v < 0 ? v >>> 0 : v);
  expect(Object.fromEntries(names.map(([k]) => [k, unsigned(got.get(`${k} value`)!)]))).toEqual(
    Object.fromEntries(names),
  );
  return names.length;
}

const DISK: Group = {
  structs: structsOf(disk),
  constants: disk as Record<string, unknown>,
  headers: ["fs/ocfs2/ocfs2_fs.h", "fs/ocfs2/cluster/ocfs2_heartbeat.h", "fs/ocfs2/dir.h", "fs/quota/quota_tree.h"],
  includes: `#define __KERNEL__\n#include "fs/ocfs2/ocfs2_fs.h"\n#include "fs/ocfs2/cluster/ocfs2_heartbeat.h"\n#include "fs/ocfs2/dir.h"\n#include "fs/quota/quota_tree.h"`,
};
const JBD2: Group = {
  structs: structsOf(jbd2).filter((s) => s !== jbd2.RevokeRecords32 && s !== (jbd2.RevokeRecords64 as AnyStruct)),
  constants: jbd2 as Record<string, unknown>,
  headers: ["include/linux/jbd2.h"],
  includes: `#include "include/linux/jbd2.h"`,
};
const FUSE: Group = {
  structs: structsOf(fuse),
  constants: fuse as Record<string, unknown>,
  headers: ["include/uapi/linux/fuse.h"],
  includes: `#include "include/uapi/linux/fuse.h"`,
};

describe.skipIf(missing)(`the tables agree with the kernel's headers${missing && ` (skipped: ${missing})`}`, () => {
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "ocfs2-format-"));
    const dir = headerDir();
    texts = new Map(HEADERS.map((h) => [h, readFileSync(join(dir, h), "utf8")]));
    // The journal's structures end where the kernel's own declarations begin; those need the whole kernel.
    const j = texts.get("include/linux/jbd2.h")!;
    const cut = j.indexOf("#ifdef __KERNEL__", j.indexOf("JBD2_KNOWN_INCOMPAT_FEATURES"));
    texts.set("include/linux/jbd2.h", `${j.slice(0, cut)}\n#endif\n`);
    const d = texts.get("fs/ocfs2/dir.h")!;
    texts.set("fs/ocfs2/dir.h", /^struct ocfs2_dx_hinfo \{[^}]*\};/m.exec(d)![0]);
    for (const [h, text] of texts) {
      mkdirSync(join(work, dirname(h)), { recursive: true });
      writeFileSync(join(work, h), text);
    }
    writeFileSync(join(work, "include/linux/jfs_compat.h"), "");
    mkdirSync(join(work, "linux"), { recursive: true });
    writeFileSync(join(work, "linux/quota.h"), "");
  }, 120_000);
  afterAll(() => {
    if (work) rmSync(work, { recursive: true, force: true });
  });

  test("every offset and size of the disk structures", () => {
    expect(compareStructs(DISK)).toBeGreaterThan(500);
  });

  test("every constant of the disk format that the header names", () => {
    expect(compareConstants(DISK)).toBeGreaterThan(120);
  });

  test("the room for records in each kind of block, for all block sizes", () => {
    const fns: Record<string, (bs: number) => number> = {
      ocfs2_fast_symlink_chars: disk.fastSymlinkChars,
      ocfs2_extent_recs_per_inode: disk.extentRecsPerInode,
      ocfs2_extent_recs_per_dx_root: disk.extentRecsPerDxRoot,
      ocfs2_chain_recs_per_inode: disk.chainRecsPerInode,
      ocfs2_extent_recs_per_eb: disk.extentRecsPerEb,
      ocfs2_extent_recs_per_gd: disk.extentRecsPerGd,
      ocfs2_dx_entries_per_leaf: disk.dxEntriesPerLeaf,
      ocfs2_dx_entries_per_root: disk.dxEntriesPerRoot,
      ocfs2_local_alloc_size: disk.localAllocSize,
      ocfs2_truncate_recs_per_inode: disk.truncateRecsPerInode,
      ocfs2_xattr_recs_per_xb: disk.xattrRecsPerXb,
      ocfs2_extent_recs_per_rb: disk.extentRecsPerRb,
      ocfs2_refcount_recs_per_rb: disk.refcountRecsPerRb,
    };
    const di = { i_dyn_features: disk.OCFS2_INLINE_XATTR_FL, i_xattr_inline_size: 256 };
    const lines: string[] = [
      "struct ocfs2_dinode di = { .i_dyn_features = OCFS2_INLINE_XATTR_FL, .i_xattr_inline_size = 256 };",
    ];
    const want: Record<string, number> = {};
    for (const bits of [9, 10, 11, 12]) {
      const bs = 1 << bits;
      const sb = `&(struct super_block){ ${bs}, ${bits} }`;
      const add = (name: string, call: string, value: number): void => {
        lines.push(`N("${name} ${bs}", ${call});`);
        want[`${name} ${bs} value`] = value;
      };
      for (const [name, fn] of Object.entries(fns)) add(name, `${name}(${sb})`, fn(bs));
      add("inline+xattr", `ocfs2_max_inline_data_with_xattr(${sb}, &di)`, disk.maxInlineDataWithXattr(bs, di));
      add("recs+xattr", `ocfs2_extent_recs_per_inode_with_xattr(${sb}, &di)`, disk.extentRecsPerInodeWithXattr(bs, di));
      add("bg cluster", `ocfs2_group_bitmap_size(${sb}, 0, 0x2000)`, disk.groupBitmapSize(bs, false, 0x2000));
      add("bg suballoc", `ocfs2_group_bitmap_size(${sb}, 1, 0x2000)`, disk.groupBitmapSize(bs, true, 0x2000));
      add("bg old", `ocfs2_group_bitmap_size(${sb}, 1, 0)`, disk.groupBitmapSize(bs, true, 0));
      for (let i = 0; i <= 6; i++) {
        add(`backup ${i}`, `ocfs2_backup_super_blkno(${sb}, ${i})`, disk.backupSuperBlkno(bs, i));
      }
    }
    for (let n = 1; n <= 255; n++) {
      lines.push(`N("rec_len ${n}", OCFS2_DIR_REC_LEN(${n}));`);
      want[`rec_len ${n} value`] = disk.dirRecLen(n);
    }
    expect(Object.fromEntries(ask(DISK, lines))).toEqual(want);
  });

  test("the names, flags and modes of the system files", () => {
    const lines = [
      `for (int i = 0; i < NUM_SYSTEM_INODES; i++) printf("%s %d %d\\n", ocfs2_system_inodes[i].si_name, ocfs2_system_inodes[i].si_iflags, ocfs2_system_inodes[i].si_mode);`,
    ];
    const got = [...ask(DISK, lines)].map(([k, mode]) => `${k} ${mode}`);
    expect(got).toEqual(disk.SYSTEM_INODES.map((s) => `${s.name} ${s.iflags} ${s.mode}`));
  });

  test("every offset, size and constant of the journal", () => {
    expect(compareStructs(JBD2)).toBeGreaterThan(80);
    expect(compareConstants(JBD2)).toBeGreaterThan(20);
  });

  test("every offset, size and constant of the FUSE protocol", () => {
    expect(compareStructs(FUSE)).toBeGreaterThan(550);
    expect(compareConstants(FUSE)).toBeGreaterThan(140);
  });

  test("nothing in the kernel's disk structures is missing from the tables", () => {
    const text = `${texts.get("fs/ocfs2/ocfs2_fs.h")!}\n${texts.get("fs/ocfs2/cluster/ocfs2_heartbeat.h")!}`;
    const named = [...text.matchAll(/^struct (\w+)\s*\{/gm)].map((m) => m[1]!);
    const have = new Set(DISK.structs.map((s) => s.name));
    expect(named.filter((n) => !have.has(n))).toEqual(["ocfs2_system_inode_info"]);
  });
});
