/**
 * Files that another node has deleted while the kernel behind FUSE still has names for them. Names are covered by their directory's lock here,
 * so nobody uses such a name any more; but as long as the kernel keeps it, it keeps the inode, this node keeps the open lock, and
 * nobody frees the space. So whoever loses an inode's meta lock is looked at again a while later: has it no links left,
 * the kernel is told to drop its names (dropped_names.ts), FORGET comes, and the last user of the file in the cluster deletes it.
 *
 * A dentry lock for every name would tell at once (coherence, rule 10), at the price of a third cluster lock an inode.
 */
import { linksOf } from "../volume/dir/attr.ts";
import { dinodeOf, type Inode, inodeLock } from "../volume/inode.ts";
import type { Osb } from "../volume/osb.ts";
import type { DroppedNames } from "./dropped_names.ts";
import type { Session } from "./session.ts";

const LOOK_MS = 3000;

export class LostNames {
  readonly #s: Session;
  readonly #dropped: DroppedNames;
  readonly #osb: Osb;
  /** Lost their lock since they were last looked at. */
  #suspects = new Set<Inode>();
  /** Known to have no links; dropped again and again until the kernel has let go. */
  #gone = new Set<Inode>();
  #timer = false;

  constructor(s: Session, dropped: DroppedNames) {
    this.#s = s;
    this.#dropped = dropped;
    this.#osb = s.osb;
  }

  /** The inode's meta lock is given up to NL. */
  suspect(inode: Inode): void {
    if (inode.nlookup === 0 || inode.ino === this.#osb.geo.root_blkno) return;
    this.#suspects.add(inode);
    this.#later();
  }

  #later(): void {
    if (this.#timer) return;
    this.#timer = true;
    this.#osb.clock.after(LOOK_MS, () => {
      this.#timer = false;
      if (this.#s.ended || this.#osb.closing) return;
      const suspects = [...this.#suspects];
      this.#suspects = new Set();
      this.#look(suspects);
      this.#osb.wakeLoop();
    });
  }

  /** One after the other, so that a few thousand of them do not ask for their locks at once. */
  #look(suspects: Inode[]): void {
    let inode = suspects.pop();
    // The kernel has forgotten them meanwhile: most, where another node removes a whole tree.
    while (inode?.nlookup === 0) inode = suspects.pop();
    if (inode === undefined) {
      this.#prune();
      return;
    }
    const suspect = inode;
    this.#osb.execInBackground(
      (op) => linksOf(dinodeOf(op, inodeLock(op, suspect))) === 0,
      (err, none) => {
        // ESTALE: deleted, and its block is another inode's by now.
        if (err || none === true) this.#gone.add(suspect);
        this.#osb.ready(() => this.#look(suspects));
      },
    );
  }

  #prune(): void {
    for (const inode of this.#gone) if (inode.nlookup === 0) this.#gone.delete(inode);
    if (this.#gone.size === 0) return;
    this.#dropped.drop(this.#gone, () => {});
    // A name that is in use (an open file's) stays; it goes when it is not.
    this.#later();
  }
}
