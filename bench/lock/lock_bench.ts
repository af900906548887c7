/** What bench/lock/run.mjs needs, in one bundle. */
export { clusterUnavailable } from "../../test/support/cluster_rig.ts";
export { measurePair, PAIRS } from "./pairs.ts";
export { reportOf, toMarkdown, toSvg } from "./report.ts";
