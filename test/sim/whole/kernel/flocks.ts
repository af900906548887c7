/**
 * Who holds a file's flock in the whole cluster: open files, each from the return of the flock(2) that took it to the call of the one that gives it up.
 * Two of them never exclude each other, and LOCK_NB is refused only where there was a reason.
 */
import type { SimNode } from "../node.ts";
import type { File } from "./kernel.ts";

/** After a close or a signal the node gives a lock up that nobody waits for any more; after a death others recover it. */
const DOUBT_MS = 60_000;

interface Of {
  readonly node: SimNode;
  /** Null while it is asked for. */
  exclusive: boolean | null;
}

export class Flocks {
  readonly #now: () => number;
  readonly #isDead: (node: SimNode) => boolean;
  readonly #files = new Map<File, Of>();
  /** Moves with all that is done to any of the locks. */
  #moves = 0;
  #doubt_ms = Number.NEGATIVE_INFINITY;
  granted = 0;
  refused = 0;

  constructor(now: () => number, isDead: (node: SimNode) => boolean) {
    this.#now = now;
    this.#isDead = isDead;
  }

  /** What is going on may still be given up, or recovered, when nobody waits for it any more. */
  doubt(): void {
    this.#doubt_ms = this.#now();
  }

  died(node: SimNode): void {
    for (const [file, of] of this.#files) if (of.node === node) this.#files.delete(file);
    this.doubt();
  }

  /** flock(2) is called, to take or to give up; the result is to be called when it returns, and says what is wrong. */
  call(
    node: SimNode,
    file: File,
    exclusive: boolean | null,
  ): (outcome: "done" | "refused" | "signal") => string | null {
    const had = this.#files.get(file);
    this.#files.delete(file);
    const alone = this.#files.size === 0;
    // Who has it already keeps it, and nobody gets in between.
    const keeps = had !== undefined && had.exclusive === exclusive;
    this.#files.set(file, keeps ? had : { node, exclusive: null });
    const moves = ++this.#moves;
    return (outcome) => {
      const undisturbed = moves === this.#moves;
      this.#moves++;
      this.#files.delete(file);
      if (outcome === "signal") this.doubt();
      if (outcome === "refused") {
        this.refused++;
        if (keeps) return "who has the lock is refused it";
        const reason = !alone || !undisturbed || this.#now() - this.#doubt_ms < DOUBT_MS;
        return reason ? null : "a lock that nobody has is refused";
      }
      if (outcome === "signal" || exclusive === null) return null;
      this.granted++;
      const excludes = (o: Of): boolean => o.exclusive === true || (o.exclusive === false && exclusive);
      const others = [...this.#files.values()].filter((o) => excludes(o) && !this.#isDead(o.node));
      this.#files.set(file, { node, exclusive });
      return others.length === 0
        ? null
        : `${exclusive ? "exclusive" : "shared"}, while node ${others[0]!.node.num} has it`;
    };
  }

  /** The file is closed. */
  closed(file: File): void {
    if (this.#files.delete(file)) this.doubt();
    this.#moves++;
  }
}
