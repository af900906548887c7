import type { IoDone } from "../../src/block/device.ts";

/** Vectored I/O as one call of `one` for each piece (address and length by turns), all at once; `done` gets the sum, or a failure. */
export function inPieces(
  iov: readonly number[],
  offset: number,
  done: IoDone,
  one: (addr: number, len: number, at: number, cb: IoDone) => void,
): void {
  let total = 0;
  let at = offset;
  let left = iov.length / 2;
  let failure = 0;
  for (let i = 0; i < iov.length; i += 2) {
    one(iov[i]!, iov[i + 1]!, at, (res) => {
      if (res < 0) failure = res;
      else total += res;
      if (--left === 0) done(failure < 0 ? failure : total);
    });
    at += iov[i + 1]!;
  }
}
