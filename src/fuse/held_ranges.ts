/**
 * Pages that the kernel keeps locked until we answer: those of a READ into its cache, and the last page of a buffered WRITE when
 * the WRITE does not cover it and has not found it uptodate (kernel_pages.ts). They are not uptodate, so an invalidation may leave them out; and it must, while the
 * request waits for the very lock that is being given up (coherence, rule 4).
 */
const PAGE = 4096;

export interface PageRange {
  /** Bytes, multiples of the page size. */
  readonly from: number;
  readonly to: number;
  /** Locked and not uptodate for certain: there is nothing to take, and a notification would only wait. */
  readonly fills?: boolean;
}

/** The whole pages that hold bytes [from, to). */
export const pagesAround = (from: number, to: number): PageRange => ({
  from: from - (from % PAGE),
  to: Math.ceil(to / PAGE) * PAGE,
});

/** The page where a buffered WRITE ends, when it does not cover that one. */
export function partialPage(offset: number, len: number): PageRange | undefined {
  const end = offset + len;
  const last = end - 1 - ((end - 1) % PAGE);
  return len === 0 || (end % PAGE === 0 && offset <= last) ? undefined : pagesAround(last, end);
}

const NOTHING: readonly PageRange[] = [];

export class HeldRanges {
  readonly #by_ino = new Map<number, Set<PageRange>>();

  /** A READ that fills pages; the result forgets it. */
  add(ino: number, offset: number, len: number): () => void {
    return this.addPages(ino, { ...pagesAround(offset, offset + len), fills: true });
  }

  /** The result forgets them. */
  addPages(ino: number, range: PageRange): () => void {
    let set = this.#by_ino.get(ino);
    if (set === undefined) this.#by_ino.set(ino, (set = new Set()));
    set.add(range);
    return () => {
      set.delete(range);
      if (set.size === 0 && this.#by_ino.get(ino) === set) this.#by_ino.delete(ino);
    };
  }

  /**
   * A buffered WRITE: the page where it ends, unless it covers that one. (A page that is not uptodate and covered in part ends
   * the request, so there is no other.)
   */
  addPartial(ino: number, offset: number, len: number): () => void {
    const page = partialPage(offset, len);
    return page === undefined ? () => {} : this.addPages(ino, page);
  }

  of(ino: number): readonly PageRange[] {
    const set = this.#by_ino.get(ino);
    return set === undefined ? NOTHING : [...set];
  }

  /** What lies outside of the ranges, from 0 on; the last one has no end (len 0). */
  static around(ranges: readonly PageRange[]): { off: number; len: number }[] {
    const sorted = [...ranges].sort((a, b) => a.from - b.from);
    const out: { off: number; len: number }[] = [];
    let at = 0;
    for (const r of sorted) {
      if (r.from > at) out.push({ off: at, len: r.from - at });
      at = Math.max(at, r.to);
    }
    out.push({ off: at, len: 0 });
    return out;
  }
}
