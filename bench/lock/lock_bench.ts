/** What bench/lock/run.mjs needs, in one bundle. */
export { clusterUnavailable } from "../../test/support/cluster_rig.ts";
export { PAIRS, PARTS, startPair } from "./pairs.ts";
export { handOversText, reportOf, toMarkdown, toSvg } from "./report.ts";
