/**
 * Failures that happen to nobody's call, a write-back's say, and are to be heard by everybody once (lib/errseq.c): each open file is told at its next
 * fsync, and who opens the file later is, if nobody was. Were it said to the first who asks, all others would take what they have written for durable.
 *
 * One number: the errno, whether anybody was told, and a count that moves with the first failure after that. 0: there was none.
 */
const SEEN = 1 << 12;
const COUNT = SEEN << 1;
const ERRNO = SEEN - 1;

/** Keeps the failures of its write-backs. */
export interface WritesBack {
  wb_err: number;
}

/** Remembers up to where it was told of them. */
export interface IsTold {
  f_wb_err: number;
}

export function errseqSet(seq: number, errno: number): number {
  const count = (seq & ~(SEEN | ERRNO)) + ((seq & SEEN) === 0 ? 0 : COUNT);
  return (count | errno) >>> 0;
}

/** There was a failure that nobody was told of. */
export const isUntold = (seq: number): boolean => seq !== 0 && (seq & SEEN) === 0;

/** What whoever comes now was told of. */
export const errseqSample = (seq: number): number => (isUntold(seq) ? 0 : seq);

/** The errno of what has happened since the sample was taken; 0 for nothing. */
export const errseqCheck = (seq: number, since: number): number => (seq === since ? 0 : seq & ERRNO);

/** As errseqCheck, and that is told now. */
export function errseqCheckAndAdvance(of: WritesBack, told: IsTold): number {
  const errno = errseqCheck(of.wb_err, told.f_wb_err);
  if (errno !== 0) of.wb_err = (of.wb_err | SEEN) >>> 0;
  told.f_wb_err = of.wb_err;
  return errno;
}
