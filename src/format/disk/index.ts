/** The OCFS2 disk format: all tables, constants and capacities. */
export * from "./alloc.ts";
export * from "./blockcheck.ts";
export * from "./capacity.ts";
export * from "./constants.ts";
export * from "./dinode.ts";
export * from "./dir.ts";
export * from "./extent.ts";
export * from "./heartbeat.ts";
export * from "./quota.ts";
export * from "./quota_tree.ts";
export * from "./refcount.ts";
export * from "./signature.ts";
export * from "./slot_map.ts";
export * from "./super.ts";
export * from "./xattr.ts";
