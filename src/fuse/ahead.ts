/**
 * Asking ahead: `find` and `ls -l` look up the names of a listing one after the other, in its order, and in a cluster each of them waits for two locks at
 * least, a round trip or two each. Who has looked up some in the order of the listing is about to ask for the next: their locks and dinodes are asked for
 * now, many at a time, and the LOOKUPs find them there. The listing alone asks for nothing: it must not take locks away from nodes that work with them.
 */

/** Names in a row before the next ones are asked for. */
const SURE_AFTER = 3;
const MOST_AHEAD = 64;
/** Listings that are remembered, and entries of each. */
const LISTINGS = 8;
const ENTRIES = 1 << 16;
/** The kernel does not ask for what it has: so far a name may lie ahead of the one before. */
const MAY_SKIP = 8;

class Listing {
  readonly inos: number[] = [];
  /** Of the last name that was looked up; and up to which they were asked for. */
  at = -1;
  ahead = 0;
  in_a_row = 0;
}

export class Ahead {
  readonly #listings = new Map<number, Listing>();
  readonly #ask: (ino: number, done: () => void) => void;
  #asked = 0;

  /** `ask` brings the inode's locks and dinode here, whatever comes of it. */
  constructor(ask: (ino: number, done: () => void) => void) {
    this.#ask = ask;
  }

  /** A piece of a listing of `dir`, from position `offset`, goes to the kernel. */
  listed(dir: number, offset: number, inos: readonly number[]): void {
    let listing = this.#listings.get(dir);
    if (offset === 0 || listing === undefined) {
      this.#listings.delete(dir);
      if (this.#listings.size >= LISTINGS) this.#listings.delete(this.#listings.keys().next().value!);
      this.#listings.set(dir, (listing = new Listing()));
    }
    if (listing.inos.length < ENTRIES) for (const ino of inos) listing.inos.push(ino);
  }

  /** A LOOKUP in `dir` has found `ino`. */
  found(dir: number, ino: number): void {
    const listing = this.#listings.get(dir);
    if (listing === undefined) return;
    const { inos } = listing;
    let at = listing.at + 1;
    while (at < inos.length && at <= listing.at + MAY_SKIP && inos[at] !== ino) at++;
    if (inos[at] !== ino) {
      listing.in_a_row = 0;
      return;
    }
    listing.at = at;
    if (++listing.in_a_row < SURE_AFTER) return;
    const to = Math.min(inos.length, at + 1 + Math.min(MOST_AHEAD, 2 * listing.in_a_row));
    listing.ahead = Math.max(listing.ahead, at + 1);
    while (listing.ahead < to && this.#asked < MOST_AHEAD) {
      this.#asked++;
      this.#ask(inos[listing.ahead++]!, () => {
        this.#asked--;
      });
    }
  }

  /** The kernel has forgotten the directory. */
  forgotten(dir: number): void {
    this.#listings.delete(dir);
  }
}
