/** The library: `import { Volume } from "ocfs2"` (docs/LIBRARY.md). */
export type { SetxattrOptions } from "./attributes.ts";
export type { FsCallbacks } from "./callbacks.ts";
export type { Dir } from "./directory.ts";
export type { SystemError } from "./errors.ts";
export type { FileData } from "./file_data.ts";
export type { FileHandle, ReadFileOptions, ReadOptions, WriteFileOptions } from "./file_handle.ts";
export { type HeldLock, type JoinOptions, type LockMode, type LockOptions, LockSpace } from "./lock_space.ts";
export type { OpenOptions } from "./open_volume.ts";
export type { PathLike } from "./path.ts";
export type { FsPromises, MkdirOptions } from "./promises.ts";
export type { BigIntStats, Dirent, Stats, StatsFs } from "./stats.ts";
export type { ReadStream, ReadStreamOptions, WriteStream, WriteStreamOptions } from "./streams.ts";
export type { TimeLike } from "./times.ts";
export type { CopyOptions, RmOptions } from "./tree.ts";
export { Volume } from "./volume.ts";
