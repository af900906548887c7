/** Behaviour of the real tables that offsets alone do not show. */
import { describe, expect, test } from "vitest";
import * as disk from "./disk/index.ts";
import * as fuse from "./fuse/index.ts";
import * as jbd2 from "./jbd2/index.ts";

describe("disk", () => {
  test("signatures are told apart without strings", () => {
    const di = disk.Dinode.alloc();
    expect(disk.signatureOf(di.dv, 0)).toBeUndefined();
    di.i_signature = disk.OCFS2_INODE_SIGNATURE;
    expect(disk.hasSignature(di.dv, 0, disk.SIG_INODE)).toBe(true);
    expect(disk.hasSignature(di.dv, 0, disk.SIG_SUPER_BLOCK)).toBe(false);
    expect(disk.signatureOf(di.dv, 0)?.text).toBe("INODE01");
    di.i_signature = "INODE01x";
    expect(disk.hasSignature(di.dv, 0, disk.SIG_INODE)).toBe(false);
  });

  test.each<[string, (d: disk.Dinode) => void, string, string]>([
    ["a super block", (d) => (d.i_flags = disk.OCFS2_SUPER_BLOCK_FL), "i_super", "i_pad1"],
    ["a chain allocator", (d) => (d.i_flags = disk.OCFS2_BITMAP_FL | disk.OCFS2_CHAIN_FL), "i_chain", "i_used"],
    ["a local alloc", (d) => (d.i_flags = disk.OCFS2_BITMAP_FL | disk.OCFS2_LOCAL_ALLOC_FL), "i_lab", "i_total"],
    ["a truncate log", (d) => (d.i_flags = disk.OCFS2_DEALLOC_FL), "i_dealloc", "i_pad1"],
    ["a journal", (d) => (d.i_flags = disk.OCFS2_JOURNAL_FL), "i_list", "ij_flags"],
    ["a device", (d) => (d.i_mode = disk.S_IFBLK), "i_list", "i_rdev"],
    ["a fast symlink", (d) => (d.i_mode = disk.S_IFLNK), "i_symlink", "i_pad1"],
    ["inline data", (d) => (d.i_dyn_features = disk.OCFS2_INLINE_DATA_FL), "i_data", "i_pad1"],
    ["a file", (d) => (d.i_mode = disk.S_IFREG), "i_list", "i_pad1"],
  ])("an inode that is %s prints that member of each union", (_what, set, id2, id1) => {
    const di = disk.Dinode.alloc(64);
    set(di);
    const json = disk.Dinode.toJSON(di);
    const members = Object.keys(json).filter((k) => disk.Dinode.fields[k as "i_list"].union);
    expect(members).toEqual(expect.arrayContaining([id1, id2]));
    const unions = new Set(members.map((k) => disk.Dinode.fields[k as "i_list"].union!.name));
    expect([...unions]).toEqual(["id1", "id2"]);
  });

  test("an extent record prints as leaf or interior by the depth of its list", () => {
    const eb = disk.ExtentBlock.alloc(32);
    eb.h_list.l_next_free_rec = 1;
    const rec = (): unknown => (disk.ExtentBlock.toJSON(eb)["h_list"] as { l_recs: unknown[] }).l_recs[0];
    expect(rec()).toHaveProperty("e_leaf_clusters");
    expect(rec()).not.toHaveProperty("e_int_clusters");
    eb.h_list.l_tree_depth = 1;
    expect(rec()).toHaveProperty("e_int_clusters");
    expect(rec()).not.toHaveProperty("e_flags");
  });

  test("a group is discontiguous only if its bitmap leaves room and its list has extents", () => {
    const gd = disk.GroupDesc.alloc(16);
    gd.bg_size = disk.OCFS2_MAX_BG_BITMAP_SIZE;
    expect(disk.gdIsDiscontig(gd)).toBe(false);
    gd.bg_list.l_next_free_rec = 2;
    expect(disk.gdIsDiscontig(gd)).toBe(true);
    gd.bg_size = 4032;
    expect(disk.gdIsDiscontig(gd)).toBe(false);
  });

  test("system file names", () => {
    expect(disk.systemInodeName(disk.JOURNAL_SYSTEM_INODE, 12)).toBe("journal:0012");
    expect(disk.systemInodeName(disk.GLOBAL_BITMAP_SYSTEM_INODE, 3)).toBe("global_bitmap");
  });

  test("file types go from mode to dirent to readdir and back", () => {
    for (const mode of [
      disk.S_IFREG,
      disk.S_IFDIR,
      disk.S_IFLNK,
      disk.S_IFCHR,
      disk.S_IFBLK,
      disk.S_IFIFO,
      disk.S_IFSOCK,
    ]) {
      expect(disk.fileTypeToDt(disk.modeToFileType(mode | 0o755))).toBe(disk.modeToDt(mode));
    }
    expect(disk.modeToFileType(0)).toBe(disk.OCFS2_FT_UNKNOWN);
    expect(disk.fileTypeToDt(200)).toBe(disk.DT.UNKNOWN);
  });

  test("times before 1970 stay negative", () => {
    const di = disk.Dinode.alloc();
    di.i_mtime = -1;
    expect(di.dv.getBigInt64(0x40, true)).toBe(-1n);
    expect(di.i_mtime).toBe(-1);
  });

  test("the link count has two halves", () => {
    expect(disk.linksCount({ i_links_count: 5, i_links_count_hi: 2 })).toBe(0x20005);
  });
});

describe("jbd2", () => {
  const {
    JBD2_FEATURE_INCOMPAT_64BIT: B64,
    JBD2_FEATURE_INCOMPAT_CSUM_V2: V2,
    JBD2_FEATURE_INCOMPAT_CSUM_V3: V3,
  } = jbd2;
  test.each([
    [0, 8],
    [B64, 12],
    [V2, 10],
    [V2 | B64, 14],
    [V3, 16],
    [V3 | B64, 16],
  ])("a tag with features 0x%x takes %i bytes", (features, size) => {
    expect(jbd2.tagBytes(features)).toBe(size);
  });

  test("the magic number is big-endian", () => {
    const h = jbd2.JournalHeader.alloc();
    h.h_magic = jbd2.JBD2_MAGIC_NUMBER;
    expect([...h.bytes().subarray(0, 4)]).toEqual([0xc0, 0x3b, 0x39, 0x98]);
  });
});

describe("fuse", () => {
  test("INIT flags of both words", () => {
    const w = fuse.initFlagWords(
      fuse.FUSE_INIT_EXT,
      fuse.FUSE_ASYNC_READ,
      fuse.FUSE_PASSTHROUGH,
      fuse.FUSE_INIT_RESERVED,
    );
    expect(w).toEqual({ flags: 0xc0000001, flags2: 0x20 });
    expect(fuse.hasInitFlag(w.flags, w.flags2, fuse.FUSE_PASSTHROUGH)).toBe(true);
    expect(fuse.hasInitFlag(w.flags, w.flags2, fuse.FUSE_SECURITY_CTX)).toBe(false);
    expect(fuse.hasInitFlag(w.flags, w.flags2, fuse.FUSE_INIT_RESERVED)).toBe(true);
    expect(fuse.hasInitFlag(w.flags, w.flags2, fuse.FUSE_POSIX_ACL)).toBe(false);
  });

  test("directory records are padded to 8 bytes", () => {
    expect([1, 8, 9].map(fuse.fuseDirentSize)).toEqual([32, 32, 40]);
    expect(fuse.fuseDirentplusSize(1)).toBe(128 + 32);
  });

  test("a fuse_dirent's off is off_, since the view has an off of its own", () => {
    const d = fuse.FuseDirent.alloc(8);
    d.off_ = 77;
    expect(d.off).toBe(0);
    expect(d.dv.getUint32(8, true)).toBe(77);
  });
});
