/**
 * What we know of the pages that the kernel keeps of a file, on clustered mounts.
 *
 * A page that is not uptodate there has nothing in it that could be lost, and may be locked until a WRITE is answered; one that is uptodate may be
 * dirty through a mapping, and no WRITE locks it. Uptodate are pages that a READ filled and those that a WRITE covered; we see both. The kernel
 * may have dropped some of them since (memory that is short, a truncation): so what we keep says "maybe", and what is not in it is not uptodate for certain.
 */
import { type PageRange, pagesAround, partialPage } from "./held_ranges.ts";

const PAGE = 4096;
/** Pages of one chunk. */
const CHUNK = 1024;

/** A set of pages. */
class PageSet {
  readonly #chunks = new Map<number, Uint32Array>();

  add(from: number, to: number): void {
    for (let page = from; page < to; page++) {
      const at = page % CHUNK;
      const n = (page - at) / CHUNK;
      let bits = this.#chunks.get(n);
      if (bits === undefined) this.#chunks.set(n, (bits = new Uint32Array(CHUNK / 32)));
      bits[at >>> 5]! |= 1 << (at & 31);
    }
  }

  hasAny(from: number, to: number): boolean {
    for (let page = from; page < to; page++) {
      const at = page % CHUNK;
      const bits = this.#chunks.get((page - at) / CHUNK);
      if (bits !== undefined && (bits[at >>> 5]! & (1 << (at & 31))) !== 0) return true;
    }
    return false;
  }
}

interface FilePages {
  filled: PageSet;
  /** While pages are called back: what was filled before that began. */
  before: PageSet[];
}

export class KernelPages {
  readonly #files = new Map<number, FilePages>();
  /** Requests under way that a notification may wait for: pages that are written back, a size that is set (the kernel writes nothing back meanwhile). */
  readonly #serving = new Map<number, number>();
  /** Counts those requests. */
  served = 0;

  #add(ino: number, { from, to }: PageRange): void {
    if (to <= from) return;
    let file = this.#files.get(ino);
    if (file === undefined) this.#files.set(ino, (file = { filled: new PageSet(), before: [] }));
    file.filled.add(from / PAGE, to / PAGE);
  }

  /** A READ is about to be answered. */
  filled(ino: number, offset: number, len: number): void {
    this.#add(ino, pagesAround(offset, offset + len));
  }

  /** A buffered WRITE came: of its pages all are uptodate but the last, unless that is covered. */
  covered(ino: number, offset: number, len: number): void {
    if (len === 0) return;
    const { from, to } = pagesAround(offset, offset + len);
    this.#add(ino, { from, to: partialPage(offset, len)?.from ?? to });
  }

  mayBeUptodate(ino: number, { from, to }: PageRange): boolean {
    const file = this.#files.get(ino);
    if (file === undefined) return false;
    return [file.filled, ...file.before].some((set) => set.hasAny(from / PAGE, to / PAGE));
  }

  /** All pages are about to be called back. */
  recall(ino: number): void {
    const file = this.#files.get(ino);
    if (file === undefined) return;
    file.before.push(file.filled);
    file.filled = new PageSet();
  }

  /** They were, but for `left`. What was filled meanwhile may be there. */
  recalled(ino: number, left: readonly PageRange[]): void {
    const file = this.#files.get(ino);
    if (file === undefined) return;
    const kept = left.filter((r) => this.mayBeUptodate(ino, r));
    file.before = [];
    for (const range of kept) this.#add(ino, range);
  }

  /** The kernel has no pages of it. */
  forget(ino: number): void {
    this.#files.delete(ino);
  }

  /** A request that a notification may wait for; call the result when it is answered. */
  serve(ino: number): () => void {
    this.served++;
    this.#serving.set(ino, (this.#serving.get(ino) ?? 0) + 1);
    return () => {
      this.served++;
      const left = this.#serving.get(ino)! - 1;
      if (left === 0) this.#serving.delete(ino);
      else this.#serving.set(ino, left);
    };
  }

  serving(ino: number): boolean {
    return this.#serving.has(ino);
  }
}
