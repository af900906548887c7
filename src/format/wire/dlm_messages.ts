/** The messages of o2dlm by type: what they are called, how they look, and how long they may be. Mirrors dlm_register_domain_handlers. */
import type { Fields, Struct } from "../struct.ts";
import * as wire from "./dlm.ts";
import { DLM_LVB_LEN, DLM_MAX_MIGRATABLE_LOCKS } from "./dlm_constants.ts";

// biome-ignore lint/suspicious/noExplicitAny: a message of any table
export interface DlmMessage<F = any> {
  readonly type: number;
  readonly name: string;
  readonly struct: Struct<F>;
  /** Longest payload that the receiver takes. */
  readonly max_len: number;
  /** Goes to the node, with DLM_MOD_KEY, instead of to a domain. */
  readonly mod: boolean;
}

const row = <F extends Fields>(
  type: number,
  name: string,
  struct: Struct<F>,
  more = 0,
  mod = false,
): DlmMessage<F> => ({
  type,
  name,
  struct,
  max_len: struct.size + more,
  mod,
});

export const DLM_MSG = {
  MASTER_REQUEST: row(500, "MASTER_REQUEST", wire.DlmMasterRequest),
  ASSERT_MASTER: row(502, "ASSERT_MASTER", wire.DlmAssertMaster),
  CREATE_LOCK: row(503, "CREATE_LOCK", wire.DlmCreateLock),
  CONVERT_LOCK: row(504, "CONVERT_LOCK", wire.DlmConvertLock, DLM_LVB_LEN),
  PROXY_AST: row(505, "PROXY_AST", wire.DlmProxyAst, DLM_LVB_LEN),
  UNLOCK_LOCK: row(506, "UNLOCK_LOCK", wire.DlmUnlockLock, DLM_LVB_LEN),
  DEREF_LOCKRES: row(507, "DEREF_LOCKRES", wire.DlmDerefLockres),
  MIGRATE_REQUEST: row(508, "MIGRATE_REQUEST", wire.DlmMigrateRequest),
  MIG_LOCKRES: row(
    509,
    "MIG_LOCKRES",
    wire.DlmMigratableLockres,
    DLM_MAX_MIGRATABLE_LOCKS * wire.DlmMigratableLock.size,
  ),
  QUERY_JOIN: row(510, "QUERY_JOIN", wire.DlmQueryJoinRequest, 0, true),
  ASSERT_JOINED: row(511, "ASSERT_JOINED", wire.DlmAssertJoined, 0, true),
  CANCEL_JOIN: row(512, "CANCEL_JOIN", wire.DlmCancelJoin, 0, true),
  EXIT_DOMAIN: row(513, "EXIT_DOMAIN", wire.DlmExitDomain),
  MASTER_REQUERY: row(514, "MASTER_REQUERY", wire.DlmMasterRequery),
  LOCK_REQUEST: row(515, "LOCK_REQUEST", wire.DlmLockRequest),
  RECO_DATA_DONE: row(516, "RECO_DATA_DONE", wire.DlmRecoDataDone),
  BEGIN_RECO: row(517, "BEGIN_RECO", wire.DlmBeginReco),
  FINALIZE_RECO: row(518, "FINALIZE_RECO", wire.DlmFinalizeReco),
  QUERY_REGION: row(519, "QUERY_REGION", wire.DlmQueryRegion, 0, true),
  QUERY_NODEINFO: row(520, "QUERY_NODEINFO", wire.DlmQueryNodeinfo, 0, true),
  BEGIN_EXIT_DOMAIN: row(521, "BEGIN_EXIT_DOMAIN", wire.DlmExitDomain),
  DEREF_LOCKRES_DONE: row(522, "DEREF_LOCKRES_DONE", wire.DlmDerefLockresDone),
} as const;

export const dlmMessages: ReadonlyMap<number, DlmMessage> = new Map(Object.values(DLM_MSG).map((m) => [m.type, m]));

/** "CREATE_LOCK", or the number of a type that is none. */
export const dlmMessageName = (type: number): string => dlmMessages.get(type)?.name ?? String(type);
