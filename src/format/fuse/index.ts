/** The FUSE kernel protocol. */
export * from "./constants.ts";
export * from "./rules.ts";
export * from "./structs.ts";
