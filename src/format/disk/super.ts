/** The super block, which lives in the inode at block 2, and the cluster it names. */
import { array, bytes, cstr, reserved, struct, sub, u8, u16, u32, u64, union, type ViewOf } from "../struct.ts";
import {
  CLUSTER_STACKFLAGS,
  FEATURE_COMPAT,
  FEATURE_INCOMPAT,
  FEATURE_RO_COMPAT,
  OCFS2_CLUSTER_NAME_LEN,
  OCFS2_MAX_VOL_LABEL_LEN,
  OCFS2_STACK_LABEL_LEN,
  OCFS2_VOL_UUID_LEN,
  S_STATE,
  TUNEFS_FLAGS,
} from "./constants.ts";

export const ClusterInfo = struct("ocfs2_cluster_info", 0x18, "le", {
  ci_stack: cstr(0x00, OCFS2_STACK_LABEL_LEN, "cluster stack: o2cb, pcmk, cman"),
  ...union(
    "ci_flags",
    {
      old: { ci_reserved: u32(0x04, "zero before the clusterinfo feature") },
      clusterinfo: {
        ci_stackflags: u8(0x04, "only valid with the clusterinfo feature", { flags: CLUSTER_STACKFLAGS }),
        ci_reserved1: reserved(0x05, 1),
        ci_reserved2: reserved(0x06, 1),
        ci_reserved3: reserved(0x07, 1),
      },
    },
    () => "clusterinfo",
  ),
  ci_cluster: cstr(0x08, OCFS2_CLUSTER_NAME_LEN, "cluster name"),
});
export type ClusterInfo = ViewOf<typeof ClusterInfo>;

/** Offsets count from the inode's id2 at 0xc0; it ends at 512, so that it fits the smallest block. */
export const SuperBlock = struct("ocfs2_super_block", 0x140, "le", {
  s_major_rev_level: u16(0x00, "0"),
  s_minor_rev_level: u16(0x02, "90"),
  s_mnt_count: u16(0x04, "mounts since the last check"),
  s_max_mnt_count: u16(0x06, "mounts after which to check"),
  s_state: u16(0x08, "file system state", { flags: S_STATE }),
  s_errors: u16(0x0a, "whether the last check saw errors; the kernel ignores it"),
  s_checkinterval: u32(0x0c, "seconds between checks"),
  s_lastcheck: u64(0x10, "time of the last check"),
  s_creator_os: u32(0x18, "OS that made it, 0: Linux"),
  s_feature_compat: u32(0x1c, "features that any driver may ignore", { flags: FEATURE_COMPAT }),
  s_feature_incompat: u32(0x20, "features without which no mount", { flags: FEATURE_INCOMPAT }),
  s_feature_ro_compat: u32(0x24, "features without which no writing", { flags: FEATURE_RO_COMPAT }),
  s_root_blkno: u64(0x28, "block number of the root directory's inode"),
  s_system_dir_blkno: u64(0x30, "block number of the system directory's inode"),
  s_blocksize_bits: u32(0x38, "log2 of the block size, 9 to 12"),
  s_clustersize_bits: u32(0x3c, "log2 of the cluster size, 12 to 20"),
  s_max_slots: u16(0x40, "nodes that can mount at once"),
  s_tunefs_flag: u16(0x42, "what tunefs was in the middle of", { flags: TUNEFS_FLAGS }),
  s_uuid_hash: u32(0x44, "hash of the uuid; also seed 3 of the directory hash"),
  s_first_cluster_group: u64(0x48, "block number of the global bitmap's first group"),
  s_label: cstr(0x50, OCFS2_MAX_VOL_LABEL_LEN, "volume label"),
  s_uuid: bytes(0x90, OCFS2_VOL_UUID_LEN, "volume uuid"),
  s_cluster_info: sub(0xa0, ClusterInfo, "only valid with the userspace-stack or clusterinfo feature"),
  s_xattr_inline_size: u16(0xb8, "bytes at the end of an inode block for inline attributes"),
  s_reserved0: reserved(0xba, 2),
  s_dx_seed: array(0xbc, "u32", 3, "seeds 0 to 2 of the directory hash"),
  s_reserved2: reserved(0xc8, 120, "fills the super block"),
});
export type SuperBlock = ViewOf<typeof SuperBlock>;
