import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Newest change of the given files and folders, ms since 1970; a folder's own counts, since it tells of a deleted file. What is missing does not count. */
export function newest(paths) {
  let ms = 0;
  for (const path of paths) {
    const st = statSync(path, { throwIfNoEntry: false });
    if (st === undefined) continue;
    ms = Math.max(ms, st.mtimeMs);
    if (st.isDirectory()) ms = Math.max(ms, newest(readdirSync(path).map((name) => join(path, name))));
  }
  return ms;
}
