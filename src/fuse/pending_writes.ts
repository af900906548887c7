/**
 * WRITEs that were received and are not carried out yet. The kernel has put what a program writes into its pages before it asks, and such a page may
 * become dirty through a mapping or be taken from it (an invalidation, memory that is short) while the WRITE waits for a lock. So:
 *
 * - A READ that fills pages comes behind a WRITE to them. Else the page keeps what was there before, for as long as the kernel keeps the
 *   page, and what is stored to it brings that back to the disk.
 * - What the kernel writes back of a page has the WRITE's bytes in it, or newer ones, and does not wait for the WRITE: a notification waits for it.
 *   What it wrote the WRITE does not write again, over what others have written since; and before the WRITE is answered that page is called back, as it
 *   may have been filled by the WRITE alone, behind the last time that all were.
 */
import { WaitQueue } from "../lib/wait.ts";
import { HeldRanges, type PageRange, pagesAround } from "./held_ranges.ts";

interface Range {
  readonly from: number;
  readonly to: number;
}

export class PendingWrite {
  readonly from: number;
  readonly to: number;
  /** The kernel's pages that it is in; null for what goes past them. */
  readonly pages: PageRange | null;
  #written: Range[] = [];

  constructor(from: number, to: number, buffered: boolean) {
    this.from = from;
    this.to = to;
    this.pages = buffered ? pagesAround(from, to) : null;
  }

  /** Past the pages nothing is written back that has the WRITE's bytes in it. */
  writtenBack(from: number, to: number): void {
    if (this.pages !== null && from < this.to && to > this.from) this.#written.push({ from, to });
  }

  /** What was written back of its pages: others may have written there since, and the pages do not say so. */
  get written(): readonly Range[] {
    return this.#written;
  }

  /** The first part of [from, to) that is still to be written; empty at `to` when there is none. */
  todo(from: number, to: number): Range {
    for (const r of [...this.#written].sort((a, b) => a.from - b.from)) {
      if (r.to <= from || r.from >= to) continue;
      if (r.from > from) return { from, to: r.from };
      from = Math.min(r.to, to);
    }
    return { from, to };
  }
}

export class PendingWrites {
  /** Pages that the kernel writes back. */
  readonly #back = new HeldRanges();
  readonly #by_ino = new Map<number, { readonly writes: Set<PendingWrite>; readonly done: WaitQueue }>();

  /** Bytes [from, to) of a file; `done` when they are written, or never will be. */
  add(ino: number, from: number, to: number, buffered: boolean): PendingWrite {
    const write = new PendingWrite(from, to, buffered);
    let of = this.#by_ino.get(ino);
    if (of === undefined) this.#by_ino.set(ino, (of = { writes: new Set(), done: new WaitQueue() }));
    of.writes.add(write);
    return write;
  }

  done(ino: number, write: PendingWrite): void {
    const of = this.#by_ino.get(ino)!;
    of.writes.delete(write);
    if (of.writes.size === 0) this.#by_ino.delete(ino);
    of.done.wakeAll();
  }

  /** The kernel has written these bytes back. */
  writtenBack(ino: number, from: number, to: number): void {
    for (const write of this.#by_ino.get(ino)?.writes ?? []) write.writtenBack(from, to);
  }

  /** The kernel writes pages back; the result is to be called when that is done. */
  back(ino: number, from: number, to: number): () => void {
    return this.#back.addPages(ino, pagesAround(from, to));
  }

  /**
   * Pages that may be dirty though EX is not here: what a WRITE has in them, and what is written back of one whose WRITE we have not seen. The kernel fills the
   * pages of a write(2) one after the other and sends it when it has all; the first may be stored to, and taken from it, while it waits for the next.
   */
  pagesOf(ino: number): readonly PageRange[] {
    const writes = [...(this.#by_ino.get(ino)?.writes ?? [])].flatMap((write) => write.pages ?? []);
    return [...writes, ...this.#back.of(ino)];
  }

  /** What a READ of these bytes waits for; undefined when no WRITE to them is pending. */
  before(ino: number, from: number, to: number): WaitQueue | undefined {
    const of = this.#by_ino.get(ino);
    if (of === undefined) return undefined;
    for (const write of of.writes) if (write.from < to && write.to > from) return of.done;
    return undefined;
  }
}
