/** Numbers of the o2dlm protocol. Mirrors dlm/dlmcommon.h and dlm/dlmapi.h. */

export const O2NM_MAX_NAME_LEN = 64;
export const DLM_LOCKID_NAME_MAX = 32;
export const DLM_LVB_LEN = 64;
export const DLM_MAX_MIGRATABLE_LOCKS = 240;
/** "flar": key of the messages that go to a node and not to a domain. */
export const DLM_MOD_KEY = 0x666c6172;

/** enum dlm_status: what a request for a lock is answered with, on the wire too. */
export const DLM_STATUS = {
  NORMAL: 0,
  GRANTED: 1,
  DENIED: 2,
  DENIED_NOLOCKS: 3,
  WORKING: 4,
  BLOCKED: 5,
  BLOCKED_ORPHAN: 6,
  DENIED_GRACE_PERIOD: 7,
  SYSERR: 8,
  NOSUPPORT: 9,
  CANCELGRANT: 10,
  IVLOCKID: 11,
  SYNC: 12,
  BADTYPE: 13,
  BADRESOURCE: 14,
  MAXHANDLES: 15,
  NOCLINFO: 16,
  NOLOCKMGR: 17,
  NOPURGED: 18,
  BADARGS: 19,
  VOID: 20,
  NOTQUEUED: 21,
  IVBUFLEN: 22,
  CVTUNGRANT: 23,
  BADPARAM: 24,
  VALNOTVALID: 25,
  REJECTED: 26,
  ABORT: 27,
  CANCEL: 28,
  IVRESHANDLE: 29,
  DEADLOCK: 30,
  DENIED_NOASTS: 31,
  FORWARD: 32,
  TIMEOUT: 33,
  IVGROUPID: 34,
  VERS_CONFLICT: 35,
  BAD_DEVICE_PATH: 36,
  NO_DEVICE_PERMISSION: 37,
  NO_CONTROL_DEVICE: 38,
  RECOVERING: 39,
  MIGRATING: 40,
} as const;

const names = Object.entries(DLM_STATUS);
/** "DLM_NORMAL" (dlm_errname). */
export const dlmStatusName = (status: number): string => `DLM_${names.find(([, v]) => v === status)?.[0] ?? status}`;

/** Modes. */
export const LKM_IVMODE = -1;
export const LKM_NLMODE = 0;
export const LKM_PRMODE = 3;
export const LKM_EXMODE = 5;

export const LKM_LOCAL = 0x00000080;
export const LKM_VALBLK = 0x00000100;
export const LKM_NOQUEUE = 0x00000200;
export const LKM_CONVERT = 0x00000400;
export const LKM_CANCEL = 0x00002000;
export const LKM_PUT_LVB = 0x20000000;
export const LKM_GET_LVB = 0x40000000;
export const LKM_RECOVERY = 0x80000000;
export const LKM_FLAGS = {
  LOCAL: LKM_LOCAL,
  VALBLK: LKM_VALBLK,
  NOQUEUE: LKM_NOQUEUE,
  CONVERT: LKM_CONVERT,
  CANCEL: LKM_CANCEL,
  PUT_LVB: LKM_PUT_LVB,
  GET_LVB: LKM_GET_LVB,
  RECOVERY: LKM_RECOVERY,
} as const;

export const DLM_LKSB_PUT_LVB = 0x02;
export const DLM_LKSB_GET_LVB = 0x04;

/** dlm_proxy_ast.type. */
export const DLM_AST = 0;
export const DLM_BAST = 1;

export const DLM_MASTER_RESP_NO = 0;
export const DLM_MASTER_RESP_YES = 1;
export const DLM_MASTER_RESP_MAYBE = 2;
export const DLM_MASTER_RESP_ERROR = 3;

export const DLM_ASSERT_RESPONSE_REASSERT = 1;
export const DLM_ASSERT_RESPONSE_MASTERY_REF = 2;
export const DLM_ASSERT_MASTER_MLE_CLEANUP = 1;
export const DLM_ASSERT_MASTER_REQUERY = 2;
export const DLM_ASSERT_MASTER_FINISH_MIGRATION = 4;

export const DLM_MIGRATE_RESPONSE_MASTERY_REF = 1;

export const DLM_DEREF_RESPONSE_DONE = 0;
export const DLM_DEREF_RESPONSE_INPROG = 1;

export const DLM_MRES_RECOVERY = 1;
export const DLM_MRES_MIGRATION = 2;
export const DLM_MRES_ALL_DONE = 4;
export const MRES_FLAGS = {
  RECOVERY: DLM_MRES_RECOVERY,
  MIGRATION: DLM_MRES_MIGRATION,
  ALL_DONE: DLM_MRES_ALL_DONE,
} as const;

export const DLM_FINALIZE_STAGE2 = 1;

export const JOIN_DISALLOW = 0;
export const JOIN_OK = 1;
export const JOIN_OK_NO_MAP = 2;
export const JOIN_PROTOCOL_MISMATCH = 3;
