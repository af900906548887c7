/** May this device be formatted? Mirrors ocfs2_check_volume of mkfs.ocfs2's check.c, and refuses what carries anything else besides. */
import fs from "node:fs";
import { type ExistingVolume, findExisting } from "./existing.ts";
import { useOf } from "./in_use.ts";
import { MkfsError } from "./params.ts";
import { whatIsOn } from "./signatures.ts";
import type { Target } from "./target.ts";

export interface TargetCheck {
  /** An OCFS2 volume that nobody is known to use; the user shall be asked. */
  readonly existing: ExistingVolume | undefined;
  /** What -F passed over. */
  readonly warnings: readonly string[];
}

function useInCluster(name: string, existing: ExistingVolume): string | undefined {
  if (existing.nodes === undefined) {
    return `${name} has an OCFS2 volume whose slot map cannot be read, so nobody can tell whether a node uses it`;
  }
  if (existing.nodes.length === 0) return undefined;
  const nodes = existing.nodes.length === 1 ? `node ${existing.nodes[0]}` : `nodes ${existing.nodes.join(", ")}`;
  return `${name} has an OCFS2 volume that ${nodes} of its cluster mounted and did not unmount; unmount it there`;
}

/** Looks for every reason not to format. Throws MkfsError for the first, or collects them as warnings with `force`. */
export function checkTarget(t: Target, force: boolean): TargetCheck {
  const warnings: string[] = [];
  const object = (why: string | undefined, hint = "; -F formats it all the same"): void => {
    if (why === undefined) return;
    if (!force) throw new MkfsError(why + hint);
    warnings.push(`${why.split(";")[0]}; formatted all the same`);
  };
  // -F goes past a live use too, as it does in mkfs.ocfs2, but that is nothing to recommend.
  object(useOf(t.name, fs.fstatSync(t.fd)) ?? t.held, "");
  const other = whatIsOn(t.readAt);
  if (other !== undefined) object(`${t.name} carries ${other}; wipe it ("wipefs -a ${t.name}") if it is not needed`);
  const existing = findExisting(t.readAt);
  if (existing) object(useInCluster(t.name, existing));
  return { existing, warnings };
}
