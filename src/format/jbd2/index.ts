/** The JBD2 journal format. */
export * from "./constants.ts";
export * from "./rules.ts";
export * from "./structs.ts";
