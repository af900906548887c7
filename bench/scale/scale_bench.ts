/** What bench/scale/run.mjs needs, in one bundle. */
export { clusterUnavailable } from "../../test/support/cluster_rig.ts";
export { measureScale, scaleImage, toMarkdown, toSvg } from "./scale.ts";
