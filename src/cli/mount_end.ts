/** The end of a mount: umount(2) takes it out of the tree at once, and its process has still to put everything on the disk. */

import { Control } from "./control.ts";
import { mountAt } from "./mount_table.ts";
import { isAlive, type MountRecord, mountRecords, recordOf } from "./run_dir.ts";
import { within } from "./within.ts";

const POLL_MS = 10;
/** What was taken out of the tree with files open on it (umount -l) lasts as long as these: that is said, and not waited for. */
const PATIENCE_MS = 30_000;

/** Waits until the volume is closed, and the process gone that served it alone; what went wrong, or null. `control` was opened before. */
export async function mountEnd(record: MountRecord, control: Control | undefined): Promise<string | null> {
  let error: string | null = null;
  for (let m = await control?.next(); m; m = await control!.next())
    if (m.type === "closed") error = (m["error"] as string | null) ?? null;
  // A local mount has a process of its own; that of a node may have other mounts.
  const closing = (): boolean =>
    isAlive(record) && (record.cluster === null || recordOf(record.dir)?.pid === record.pid);
  while (closing()) await new Promise((ok) => setTimeout(ok, POLL_MS));
  return error;
}

/** Waits for mounts of `device`, or on `dir`, that are out of the tree already: who mounts right behind umount(2) wants no more than that. */
export async function waitForEnds(device: string, dir: string): Promise<void> {
  for (const record of mountRecords()) {
    const concerned = record.device === device || record.dir === dir;
    if (!concerned || mountAt(record.dir, record.pid) !== undefined) continue;
    const control = await Control.open(record.dir);
    await within(PATIENCE_MS, mountEnd(record, control), undefined);
    control?.close();
  }
}
