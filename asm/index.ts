// The one Wasm module: everything that grinds over the shared arena. No managed object, no mutable static data, and
// no data segment (a second thread that instantiates the module must not write a byte of a memory in use), so
// `tablesInit` is called once by whoever creates the memory. Addresses are byte offsets into that memory.

export { blockCheckCompute, blockCheckComputeBatch, blockCheckComputeBhs } from "./checksum";
export { blockCheckValidate, blockCheckValidateBatch, blockCheckValidateBhs } from "./checksum";
export { crc32Be, crc32Le, crc32c, crc32cBatch, tablesInit } from "./crc";
export { hammingEncode, hammingFix } from "./hamming";
export { clearRange, findFreeRun, findNextBit, findNextZeroBit, popcountBatch, popcountRange, setRange } from "./bitmap";
export { dirCheck, dirFind, dirFindFree, dirMaxRecLen, dxFind, dxHash } from "./dirhash";
export { emapInit, emapInsert, emapLookup, emapLookupBatch, emapRemove } from "./extent_map";
export { extentSearch, extentSearchBatch, extentSearchInterior } from "./extent_map";
export { bqMerge, bqSort } from "./blockqueue";
export { ringCount, ringInit, ringPop, ringPopN, ringPush, ringPushN } from "./aio";

/** First byte behind the module's static data: the arena's own room starts here. */
export function heapBase(): usize {
  return __heap_base;
}
