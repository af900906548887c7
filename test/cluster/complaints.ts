/** Complaints of a kernel node (KernelNode.complaints) that it makes in a cluster of kernel nodes as well, by what brings them about. */

/**
 * Names changed between its lookup and its locks: these log any status that they end with (mlog_errno under leave, out and bail in namei.c, and in
 * ocfs2_check_dir_for_entry, which is asked again under the locks), and in such a race that is ENOENT, EACCES ("disagree"), EEXIST or ENOTEMPTY.
 * Unlink and rmdir pass over theirs.
 */
export const OF_A_RACE =
  /:ocfs2_(rename|double_lock|link|mknod|mkdir|create|symlink|check_dir_for_entry):\d+ ERROR: status = -(2|13|17|39)\b/;

/**
 * Another node leaves, and gives it the mastery of a resource whose last reference it drops in the same moment: it refuses, and the other one's next try
 * finds it gone (DLM_LOCK_RES_DROPPING_REF in dlm_mig_lockres_handler; who masters it picks who has a reference, dlm_is_lockres_migratable). Or it is the one
 * that leaves.
 */
export const OF_A_LEAVE =
  /:(dlm_mig_lockres_handler:\d+ ERROR: status =|dlm_send_one_lockres:\d+ ERROR: \w+: dlm_send_mig_lockres_msg returned) -22\b/;

/**
 * Another node died: o2dlm logs what becomes of every message to it, AST, DEREF and lock request, and what it had asked it for. -11 EAGAIN, -22 EINVAL,
 * -92 ENOPROTOOPT (it is coming back), -107 ENOTCONN, -110 ETIMEDOUT, -112 EHOSTDOWN. And a resource of the dead whose DEREF was under way is purged by
 * the recovery first (dlm_do_local_recovery_cleanup), and once more by who sent that (dlm_purge_lockres).
 */
export const OF_A_DEATH =
  /:(dlm|o2net|o2quo|o2cb)_\w+:\d+ ERROR: (.*[:,] )?(Resource \w+ not on the Tracking list|link to \d+ went down|node down! \d+|node \d+ went down|(status|ret|tmpret) = -(11|22|92|107|110|112)\b|error -(92|107|110|112) (when sending message|send [A-Z_ ]+\b) .*to node \d+)/i;
