/**
 * The messages of o2dlm 1.3, as they stand behind the header of o2net: big-endian. Mirrors dlm/dlmcommon.h. What each is answered with:
 * docs/PROTOCOL.md. A name fills `namelen` bytes of 64, of which the lock manager takes 32.
 */
import { array, bytes, reserved, s8, struct, tail, u8, u16, u32, type ViewOf } from "../struct.ts";
import { DLM_LVB_LEN, LKM_FLAGS, MRES_FLAGS, O2NM_MAX_NAME_LEN } from "./dlm_constants.ts";

const name = (off: number) => bytes(off, O2NM_MAX_NAME_LEN, "of the lock resource; bytes, not text");
const lvb = (off: number) => tail(off, "u8", "the LVB, if flags say so");

/** A cookie as two halves: it names a lock and is never calculated with. */
const cookie = {
  cookie_hi: u32(0x00, "node that made the lock in the top byte"),
  cookie_lo: u32(0x04, "its sequence number there, with the lower bytes of cookie_hi above it"),
};

const master = (struct_name: string) =>
  struct(struct_name, 0x48, "be", {
    node_idx: u8(0x00, "sender"),
    namelen: u8(0x01, ""),
    pad1: reserved(0x02, 2),
    flags: u32(0x04, "DLM_ASSERT_MASTER_*; 0 in a request"),
    name: name(0x08),
  });

export const DlmMasterRequest = master("dlm_master_request");
export const DlmAssertMaster = master("dlm_assert_master");

export const DlmCreateLock = struct("dlm_create_lock", 0x50, "be", {
  ...cookie,
  flags: u32(0x08, "LKM_*", { flags: LKM_FLAGS }),
  pad1: reserved(0x0c, 1),
  node_idx: u8(0x0d, "sender"),
  requested_type: s8(0x0e, "LKM_NLMODE, PRMODE or EXMODE"),
  namelen: u8(0x0f, ""),
  name: name(0x10),
});

export const DlmConvertLock = struct("dlm_convert_lock", 0x50, "be", {
  ...cookie,
  flags: u32(0x08, "LKM_*", { flags: LKM_FLAGS }),
  pad1: reserved(0x0c, 1),
  node_idx: u8(0x0d, "sender"),
  requested_type: s8(0x0e, "LKM_NLMODE, PRMODE or EXMODE"),
  namelen: u8(0x0f, ""),
  name: name(0x10),
  lvb: lvb(0x50),
});

export const DlmUnlockLock = struct("dlm_unlock_lock", 0x50, "be", {
  ...cookie,
  flags: u32(0x08, "LKM_*", { flags: LKM_FLAGS }),
  pad1: reserved(0x0c, 2),
  node_idx: u8(0x0e, "sender"),
  namelen: u8(0x0f, ""),
  name: name(0x10),
  lvb: lvb(0x50),
});

export const DlmProxyAst = struct("dlm_proxy_ast", 0x50, "be", {
  ...cookie,
  flags: u32(0x08, "LKM_GET_LVB: the LVB follows", { flags: LKM_FLAGS }),
  node_idx: u8(0x0c, "sender, the master"),
  type: u8(0x0d, "0 AST, 1 BAST"),
  blocked_type: u8(0x0e, "BAST: the level that somebody wants"),
  namelen: u8(0x0f, ""),
  name: name(0x10),
  lvb: lvb(0x50),
});

const deref = (struct_name: string) =>
  struct(struct_name, 0x48, "be", {
    pad1: reserved(0x00, 4),
    pad2: reserved(0x04, 2),
    node_idx: u8(0x06, "sender"),
    namelen: u8(0x07, ""),
    name: name(0x08),
  });
export const DlmDerefLockres = deref("dlm_deref_lockres");
export const DlmDerefLockresDone = deref("dlm_deref_lockres_done");

export const DlmMigrateRequest = struct("dlm_migrate_request", 0x48, "be", {
  master: u8(0x00, "who gives the resource away"),
  new_master: u8(0x01, "who takes it: the sender"),
  namelen: u8(0x02, ""),
  pad1: reserved(0x03, 1),
  pad2: reserved(0x04, 4),
  name: name(0x08),
});

/** One lock of a resource that is migrated or recovered. */
export const DlmMigratableLock = struct("dlm_migratable_lock", 0x10, "be", {
  ...cookie,
  pad1: reserved(0x08, 2),
  list: u8(0x0a, "0 granted, 1 converting, 2 blocked"),
  flags: u8(0x0b, "DLM_LKSB_*: an LVB is to be put or got"),
  type: s8(0x0c, "level"),
  convert_type: s8(0x0d, "level asked for, -1 if none"),
  highest_blocked: s8(0x0e, "-1"),
  node: u8(0x0f, "owner of the lock"),
});
export type DlmMigratableLock = ViewOf<typeof DlmMigratableLock>;

export const DlmMigratableLockres = struct("dlm_migratable_lockres", 0x70, "be", {
  master: u8(0x00, "of the resource when it was sent; 255 unknown"),
  lockname_len: u8(0x01, ""),
  num_locks: u8(0x02, "locks in this message"),
  flags: u8(0x03, "DLM_MRES_*", { flags: MRES_FLAGS }),
  total_locks: u32(0x04, "locks in all messages for the resource"),
  mig_cookie_hi: u32(0x08, "the same in all messages of one migration, 0 if one message holds all"),
  mig_cookie_lo: u32(0x0c, ""),
  lockname: bytes(0x10, 32, "of the lock resource"),
  lvb: bytes(0x30, DLM_LVB_LEN, "the LVB, as the locks at PR and EX know it"),
  ml: tail(0x70, DlmMigratableLock, "locks", { used: "num_locks" }),
});
export type DlmMigratableLockres = ViewOf<typeof DlmMigratableLockres>;

export const DlmMasterRequery = struct("dlm_master_requery", 0x48, "be", {
  pad1: reserved(0x00, 1),
  pad2: reserved(0x01, 1),
  node_idx: u8(0x02, "sender"),
  namelen: u8(0x03, ""),
  pad3: reserved(0x04, 4),
  name: name(0x08),
});

const reco = (struct_name: string) =>
  struct(struct_name, 0x08, "be", {
    node_idx: u8(0x00, "sender"),
    dead_node: u8(0x01, "whose resources are recovered"),
    pad1: reserved(0x02, 2),
    pad2: reserved(0x04, 4),
  });
export const DlmLockRequest = reco("dlm_lock_request");
export const DlmBeginReco = reco("dlm_begin_reco");

export const DlmRecoDataDone = struct("dlm_reco_data_done", 0x48, "be", {
  node_idx: u8(0x00, "sender"),
  dead_node: u8(0x01, "whose resources are recovered"),
  pad1: reserved(0x02, 2),
  pad2: reserved(0x04, 4),
  reco_lvb: bytes(0x08, DLM_LVB_LEN, "not used"),
});

export const DlmFinalizeReco = struct("dlm_finalize_reco", 0x08, "be", {
  node_idx: u8(0x00, "sender, the recovery master"),
  dead_node: u8(0x01, "whose resources were recovered"),
  flags: u8(0x02, "1: the second stage"),
  pad1: reserved(0x03, 1),
  pad2: reserved(0x04, 4),
});

export const DlmQueryJoinRequest = struct("dlm_query_join_request", 0x68, "be", {
  node_idx: u8(0x00, "who wants to join"),
  pad1: reserved(0x01, 2),
  name_len: u8(0x03, ""),
  dlm_proto_major: u8(0x04, "1"),
  dlm_proto_minor: u8(0x05, "highest that the sender speaks"),
  fs_proto_major: u8(0x06, "1"),
  fs_proto_minor: u8(0x07, "highest that the sender speaks"),
  domain: bytes(0x08, O2NM_MAX_NAME_LEN, "UUID of the volume, in upper-case hexadecimal digits"),
  node_map: bytes(0x48, 32, "nodes that the sender sees alive, lowest bit first"),
});

/** What a QUERY_JOIN is answered with, as bytes of the status from the highest on. */
export const DlmQueryJoinPacket = struct("dlm_query_join_packet", 0x04, "be", {
  code: u8(0x00, "JOIN_*"),
  dlm_minor: u8(0x01, "what the domain speaks"),
  fs_minor: u8(0x02, "what the domain speaks"),
  reserved: reserved(0x03, 1),
});

const joined = (struct_name: string) =>
  struct(struct_name, 0x44, "be", {
    node_idx: u8(0x00, "sender"),
    pad1: reserved(0x01, 2),
    name_len: u8(0x03, ""),
    domain: bytes(0x04, O2NM_MAX_NAME_LEN, "name of the domain"),
  });
export const DlmAssertJoined = joined("dlm_assert_joined");
export const DlmCancelJoin = joined("dlm_cancel_join");

/** As with O2NM_MAX_REGIONS 32 and names of 32 bytes. */
export const DlmQueryRegion = struct("dlm_query_region", 0x444, "be", {
  qr_node: u8(0x00, "who wants to join"),
  qr_numregions: u8(0x01, "0 under local heartbeat"),
  qr_namelen: u8(0x02, ""),
  pad1: reserved(0x03, 1),
  qr_domain: bytes(0x04, O2NM_MAX_NAME_LEN, "name of the domain"),
  qr_regions: bytes(0x44, 1024, "names of heartbeat regions, 32 bytes each"),
});

export const DlmNodeInfo = struct("dlm_node_info", 0x08, "be", {
  ni_nodenum: u8(0x00, "number of the node"),
  pad1: reserved(0x01, 1),
  ni_ipv4_port: u16(0x02, ""),
  ni_ipv4_address: u32(0x04, ""),
});

export const DlmQueryNodeinfo = struct("dlm_query_nodeinfo", 0x83c, "be", {
  qn_nodenum: u8(0x00, "who wants to join"),
  qn_numnodes: u8(0x01, "nodes in its cluster.conf"),
  qn_namelen: u8(0x02, ""),
  pad1: reserved(0x03, 1),
  qn_domain: bytes(0x04, O2NM_MAX_NAME_LEN, "name of the domain"),
  qn_nodes: array(0x44, DlmNodeInfo, 255, "nodes"),
});

/** EXIT_DOMAIN and BEGIN_EXIT_DOMAIN. */
export const DlmExitDomain = struct("dlm_exit_domain", 0x04, "be", {
  node_idx: u8(0x00, "sender"),
  pad1: reserved(0x01, 3),
});
