/** The superblock at mount: found, checked, and what its feature bits allow (super.c: ocfs2_sb_probe, ocfs2_check_feature). */
import { type BlockDevice, deviceRead } from "../block/device.ts";
import {
  Dinode,
  FEATURE_INCOMPAT,
  FEATURE_RO_COMPAT,
  OCFS2_SUPER_BLOCK_BLKNO,
  OCFS2_SUPER_BLOCK_SIGNATURE,
  type SuperBlock,
} from "../format/disk/index.ts";
import { featureNames, unsupportedFeatures } from "../format/features.ts";
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { Corruption, FsError } from "../lib/fs_error.ts";
import type { Task } from "../lib/task.ts";
import type { MountOptions } from "./mount_options.ts";
import type { Geometry } from "./osb.ts";

/**
 * Reads and checks the superblock, whatever the block size (ocfs2_sb_probe). Leaves the geometry. A volume whose blocks are smaller than what the
 * device takes is found, too, to say so: it is written block by block.
 */
export function* readSuperblock(arena: Arena, dev: BlockDevice): Task<Geometry> {
  const align = dev.alignment_bytes;
  const addr = arena.alloc(Math.max(4096, align), Math.max(4096, align));
  for (let bits = 9; bits <= 12; bits++) {
    const bytes = 1 << bits;
    const at = OCFS2_SUPER_BLOCK_BLKNO * bytes;
    const skip = at % align;
    const len = Math.ceil((skip + bytes) / align) * align;
    if (dev.size_bytes < at - skip + len) continue;
    yield* deviceRead(dev, addr, len, at - skip);
    const di = Dinode.at(arena.dv, addr + skip);
    if (di.i_signature !== OCFS2_SUPER_BLOCK_SIGNATURE) continue;
    const sb = di.i_super;
    if (sb.s_blocksize_bits !== bits) continue;
    if (bytes < align)
      throw new FsError(Errno.EINVAL, "superblock", {
        device: dev.name,
        found: `blocks of ${bytes} bytes on a device that takes no less than ${align}: copy the volume to a device with smaller sectors, or make a new one with larger blocks`,
      });
    return checkSuperblock(di, sb, dev);
  }
  throw new FsError(Errno.EINVAL, "superblock", { device: dev.name, found: "no OCFS2 volume" });
}

function checkSuperblock(di: Dinode, sb: SuperBlock, dev: BlockDevice): Geometry {
  const bad = (found: string): never => {
    throw new Corruption("superblock", { blkno: di.i_blkno, found });
  };
  if (di.i_blkno !== OCFS2_SUPER_BLOCK_BLKNO) bad(`claims to be block ${di.i_blkno}`);
  const cbits = sb.s_clustersize_bits;
  if (cbits < 12 || cbits > 20) bad(`cluster size bits ${cbits}`);
  // A device for global heartbeat has none of these, and is refused for what it is.
  const has_files = (sb.s_feature_incompat & FEATURE_INCOMPAT.HEARTBEAT_DEV) === 0;
  if ((has_files && sb.s_max_slots === 0) || sb.s_max_slots > 255) bad(`${sb.s_max_slots} slots`);
  if ((has_files && sb.s_root_blkno === 0) || sb.s_system_dir_blkno === 0) bad("no root or system directory");
  if (sb.s_first_cluster_group === 0) bad("no first cluster group");
  const volume_bytes = di.i_clusters * 2 ** cbits;
  if (volume_bytes > dev.size_bytes)
    bad(`a volume of ${volume_bytes} bytes on a device of ${dev.size_bytes}: a part of it is missing`);
  const bbits = sb.s_blocksize_bits;
  return {
    blocksize: 1 << bbits,
    blocksize_bits: bbits,
    clustersize: 1 << cbits,
    clustersize_bits: cbits,
    c_to_b_bits: cbits - bbits,
    blocks_per_cluster: 1 << (cbits - bbits),
    clusters: di.i_clusters,
    max_slots: sb.s_max_slots,
    root_blkno: sb.s_root_blkno,
    system_dir_blkno: sb.s_system_dir_blkno,
    first_cluster_group_blkno: sb.s_first_cluster_group,
    fs_generation: di.i_fs_generation,
    feature_compat: sb.s_feature_compat,
    feature_incompat: sb.s_feature_incompat,
    feature_ro_compat: sb.s_feature_ro_compat,
    uuid: sb.s_uuid.slice(),
    uuid_hash: sb.s_uuid_hash,
    label: sb.s_label,
    dx_seed: [sb.s_dx_seed.get(0), sb.s_dx_seed.get(1), sb.s_dx_seed.get(2)],
    xattr_inline_size: sb.s_xattr_inline_size,
    volume_bytes,
  };
}

/** What a user can do about an incompat feature that keeps a volume from being mounted. */
function whyUnsupported(bits: number, names: readonly string[]): string {
  const feature = `feature ${names.join(" ")} is not supported`;
  const { HEARTBEAT_DEV, RESIZE_INPROG, TUNEFS_INPROG } = FEATURE_INCOMPAT;
  if ((bits & HEARTBEAT_DEV) !== 0) return `${feature}: this is a device for the global heartbeat, not a file system`;
  if ((bits & (RESIZE_INPROG | TUNEFS_INPROG)) !== 0)
    return `${feature}: tunefs.ocfs2 was not let to its end; let fsck.ocfs2 -f finish or undo its work`;
  return `${feature}: the volume was made by something newer`;
}

/** Refuses what this code does not know, and says why a volume is read-only (ocfs2_check_feature in super.c). */
export function gateFeatures(geo: Geometry, options: MountOptions, clustered: boolean): string | null {
  const words = {
    s_feature_compat: geo.feature_compat,
    s_feature_incompat: geo.feature_incompat,
    s_feature_ro_compat: geo.feature_ro_compat,
  };
  let reason = options.ro ? "mounted read-only" : null;
  for (const u of unsupportedFeatures(words)) {
    if (u.class === "incompat")
      throw new FsError(Errno.EINVAL, "superblock.features", { found: whyUnsupported(u.bits, u.names) });
    if (u.class === "ro_compat") reason ??= `unsupported feature ${u.names.join(" ")}`;
  }
  for (const asked of ["usrquota", "grpquota"] as const)
    if (options[asked] && !featureNames("ro_compat", geo.feature_ro_compat).includes(asked))
      throw new FsError(Errno.EINVAL, "mount", {
        found: `-o ${asked}: the volume has no such quotas; tunefs.ocfs2 --fs-features=${asked} adds them`,
      });
  const quota = geo.feature_ro_compat & (FEATURE_RO_COMPAT.USRQUOTA | FEATURE_RO_COMPAT.GRPQUOTA);
  const local = (geo.feature_incompat & FEATURE_INCOMPAT.LOCAL_MOUNT) !== 0;
  if (!local && !options.nocluster && !clustered)
    throw new FsError(Errno.EINVAL, "mount", {
      found: "a clustered volume; open it with nocluster if no other node uses it",
    });
  if (quota !== 0 && clustered) {
    const names = featureNames("ro_compat", quota);
    throw new FsError(Errno.EINVAL, "mount", {
      found: `feature ${names.join(" ")}: quotas are not kept on a cluster yet; take them off (tunefs.ocfs2 --fs-features=${names.map((n) => `no${n}`).join(",")}), or read it alone with -o nocluster,ro`,
    });
  }
  if (quota !== 0) reason ??= `feature ${featureNames("ro_compat", quota).join(" ")} is supported read-only`;
  return reason;
}
