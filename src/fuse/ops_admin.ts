/** Requests about the connection itself: INIT, DESTROY, FORGET, INTERRUPT, STATFS, SYNCFS. */
import {
  FUSE_KERNEL_VERSION,
  FuseBatchForgetIn,
  FuseForgetIn,
  FuseForgetOne,
  FuseInitIn,
  FuseInitOut,
  FuseInterruptIn,
  FuseKstatfs,
  FuseStatfsOut,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn } from "../lib/task.ts";
import { statfs } from "../vfs/file.ts";
import { syncVolume } from "../volume/super.ts";
import { negotiate } from "./flags.ts";
import { ASK_AGAIN } from "./reply.ts";
import type { Session } from "./session.ts";
import { MAX_WRITE } from "./slots.ts";
import { ToldNames } from "./told_names.ts";

/** The oldest minor that we speak: 7.31 (Linux 5.4). Older kernels lack max_pages, or lay out requests differently. */
const OLDEST_MINOR = 31;
/** FUSE_NOTIFY_INC_EPOCH, Linux 6.16. */
const INC_EPOCH_MINOR = 44;
/** FUSE_NOTIFY_PRUNE, Linux 6.18. */
export const PRUNE_MINOR = 45;
/**
 * Background requests in flight (readahead, asynchronous direct I/O): they wait on the heap when they find no slot, so
 * there is no reason for a limit below the field's (coherence: exhaustion is a deadlock).
 */
const MAX_BACKGROUND = 0xffff;
const MAX_READAHEAD = 16 << 20;
const FLAGS2_OFF = FuseInitIn.fields.flags2.off;

export function init(s: Session): void {
  const request = FuseInitIn.at(s.dv as DataView, s.body);
  const { major, minor, flags, max_readahead } = request;
  const flags2 = s.end - s.body >= FLAGS2_OFF + 4 ? request.flags2 : 0;
  const { unique } = s;
  if (major < FUSE_KERNEL_VERSION || (major === FUSE_KERNEL_VERSION && minor < OLDEST_MINOR)) {
    mlog(ML.ERROR, `the kernel speaks FUSE ${major}.${minor}; 7.${OLDEST_MINOR} is needed (Linux 5.4)`);
    s.fail(unique, Errno.EPROTO);
    return;
  }
  const at = s.bodyOut(FuseInitOut.size);
  const out = FuseInitOut.at(s.dv as DataView, at);
  out.major = FUSE_KERNEL_VERSION;
  out.minor = s.fuse_minor;
  if (major > FUSE_KERNEL_VERSION) {
    // It asks again with our major.
    s.reply(unique, FuseInitOut.size);
    return;
  }
  const agreed = negotiate(s.policy, flags, flags2);
  s.minor = Math.min(minor, s.fuse_minor);
  s.init_flags = agreed.flags;
  s.init_flags2 = agreed.flags2;
  // Without INC_EPOCH a name cannot be taken back without waiting for requests that wait for us.
  const asks_again = s.minor < INC_EPOCH_MINOR || s.policy.mountpoints;
  if (s.policy.clustered && asks_again) s.timeouts = ASK_AGAIN;
  if (s.policy.clustered && s.minor < PRUNE_MINOR) s.told_names = new ToldNames();
  out.max_readahead = Math.max(max_readahead, MAX_READAHEAD);
  out.flags = agreed.flags;
  out.flags2 = agreed.flags2;
  out.max_background = MAX_BACKGROUND;
  out.congestion_threshold = MAX_BACKGROUND;
  out.max_write = MAX_WRITE;
  out.max_pages = MAX_WRITE >> 12;
  out.time_gran = 1;
  s.initialized = true;
  s.reply(unique, FuseInitOut.size);
  s.onInit();
}

/** umount(2) of a block device's mount waits for the answer: everything is on the disk then. */
export function destroy(s: Session): void {
  const { unique } = s;
  spawn(syncVolume(s.osb), (err) => {
    if (err) s.error(unique, err);
    else s.replyEmpty(unique);
  });
}

export function forget(s: Session): void {
  const n = FuseForgetIn.at(s.dv as DataView, s.body).nlookup;
  const ino = s.ino(s.nodeid);
  s.noReply();
  s.forget(ino, n);
}

export function batchForget(s: Session): void {
  const { dv } = s;
  const count = FuseBatchForgetIn.at(dv as DataView, s.body).count;
  const one = FuseForgetOne.at(dv as DataView, 0);
  const first = s.body + FuseBatchForgetIn.size;
  const fits = Math.min(count, Math.floor((s.end - first) / FuseForgetOne.size));
  s.noReply();
  for (let i = 0; i < fits; i++) {
    one.seek(first + i * FuseForgetOne.size);
    s.forget(s.ino(one.nodeid), one.nlookup);
  }
}

/**
 * A signal for the process that waits for a request. An operation that was begun cannot be said to have not happened, so its answer comes
 * when it comes; only a wait for another node's flock is given up.
 */
export function interrupt(s: Session): void {
  s.interrupts.get(FuseInterruptIn.at(s.dv as DataView, s.body).unique)?.();
  s.noReply();
}

export function statFs(s: Session): void {
  s.run(statfs, (st, unique) => {
    const at = s.bodyOut(FuseStatfsOut.size);
    const out = FuseKstatfs.at(s.dv as DataView, at);
    out.blocks = st.blocks;
    out.bfree = st.bfree;
    out.bavail = st.bavail;
    out.files = st.files;
    out.ffree = st.ffree;
    out.bsize = st.bsize;
    out.frsize = st.bsize;
    out.namelen = st.namelen;
    s.reply(unique, FuseStatfsOut.size);
  });
}

export function syncFs(s: Session): void {
  destroy(s);
}
