/** Which lines of a kernel node are complaints, and which of these are expected. */
import { expect, test } from "vitest";
import { complaintsIn } from "../support/rig.ts";
import { OF_A_DEATH, OF_A_LEAVE, OF_A_RACE } from "./complaints.ts";

const DOMAIN = "47807839F7714F7DAEF8B665A90EC60C";
const RACE = [
  "(cluster_load,763,0):ocfs2_rename:1687 ERROR: status = -13",
  "(cluster_load,763,0):ocfs2_check_dir_for_entry:2044 ERROR: status = -17",
];
const LEAVE = [
  "(kworker/u2:1,22,0):dlm_mig_lockres_handler:1526 ERROR: status = -22",
  `(umount,829,0):dlm_send_one_lockres:1319 ERROR: ${DOMAIN}: dlm_send_mig_lockres_msg returned -22`,
];
const DEATH = [
  "(cluster_load,762,0):dlm_send_remote_convert_request:401 ERROR: Error -112 when sending message 504 (key 0xb80959ba) to node 11",
  "(kworker/u2:0,7,0):dlm_send_remote_convert_request:401 ERROR: Error -107 when sending message 504 (key 0xb80959ba) to node 11",
  `(dlm-47807839F77,748,0):dlm_send_proxy_ast_msg:455 ERROR: ${DOMAIN}: res S000000000000000000000200000000, error -112 send AST to node 12`,
  `(dlm-47807839F77,748,0):dlm_drop_lockres_ref:2234 ERROR: ${DOMAIN}: res N0000000000017a2f, error -107 send DEREF to node 11`,
  "(dlm-47807839F77,748,0):dlm_flush_asts:652 ERROR: status = -112",
  "(dlm-47807839F77,750,0):dlm_purge_lockres:260 ERROR: Resource M0000000000000000000024a26ca783 not on the Tracking list",
  "(cluster_load,762,0):dlm_do_master_request:1346 ERROR: link to 11 went down!",
];
const OTHER = [
  "(rm,763,0):ocfs2_unlink:1044 ERROR: status = -17",
  "(ocfs2dc-4780783,750,0):ocfs2_downconvert_lock:3600 ERROR: DLM error -22 while calling ocfs2_dlm_lock on resource M0",
  `(dlm-47807839F77,748,0):dlm_drop_lockres_ref:2234 ERROR: ${DOMAIN}: res N0000000000017a2f, error -22 send DEREF to node 11`,
  `(kworker/u2:0,7,0):dlm_deref_lockres_handler:2301 ERROR: ${DOMAIN}:N0000000000017a2f: node 11 trying to drop ref but it is already dropped!`,
];

test("what programs and threads of the kernel complain of is heard, what it says besides is not", () => {
  const said = ["o2dlm: Node 11 leaves domain", ...RACE, ...LEAVE, ...DEATH, ...OTHER];
  expect(complaintsIn(said.join("\n"))).toEqual([...RACE, ...LEAVE, ...DEATH, ...OTHER]);
});

test("of these a race, a leave and a death are expected where they happen, and nothing else", () => {
  const all = [...RACE, ...LEAVE, ...DEATH, ...OTHER];
  expect(all.filter((line) => OF_A_RACE.test(line))).toEqual(RACE);
  expect(all.filter((line) => OF_A_LEAVE.test(line))).toEqual(LEAVE);
  expect(all.filter((line) => OF_A_DEATH.test(line))).toEqual([LEAVE[0], ...DEATH]);
});
