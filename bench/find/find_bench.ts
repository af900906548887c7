/** What bench/find/run.mjs needs, in one bundle. */
export { clusterUnavailable } from "../../test/support/cluster_rig.ts";
export { measureFind } from "./measure.ts";
export { toMarkdown, toSvg } from "./report.ts";
