/**
 * `ocfs2 install-helper`: puts mount.fuse.ocfs2 and umount.fuse.ocfs2 where mount(8) and umount(8) look for them, so that
 * `mount -t fuse.ocfs2 DEVICE DIR`, a line in /etc/fstab and `umount DEVICE` do what `ocfs2 mount` and `ocfs2 umount` do (`umount DIR`:
 * docs/FUSE.md, "What FUSE cannot give").
 */
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { folderOf } from "../tools/problem.ts";
import { CliError, report } from "./errors.ts";

const MARK = "# installed by ocfs2 install-helper";

/** bin/ocfs2 beside dist/, where this is bundled. */
function launcher(): string {
  const path = join(import.meta.dirname, "..", "bin", "ocfs2");
  if (!existsSync(path)) throw new CliError(1, `${path} is missing`);
  return path;
}

const quote = (s: string): string => `'${s.replaceAll("'", "'\\''")}'`;

/** mount(8) calls the helper as: DEVICE DIR [-sfnv] [-N ns] [-o options] [-t type]. */
const mountHelper = (bin: string): string => `#!/bin/sh
${MARK}
device=$1
dir=$2
shift 2
options=
while [ $# -gt 0 ]; do
  case $1 in
    -o) options=$2; shift ;;
    -t | -N) shift ;;
    -f) exit 0 ;;
  esac
  shift
done
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec ${quote(process.execPath)} ${quote(bin)} mount \${options:+-o "$options"} -- "$device" "$dir"
`;

/** umount(8) calls the helper as: DIR [-flnrv] [-N ns] [-t type]. */
const umountHelper = (bin: string): string => `#!/bin/sh
${MARK}
dir=$1
shift
lazy=
for word; do
  [ "$word" = -l ] && lazy=-l
done
exec ${quote(process.execPath)} ${quote(bin)} umount $lazy -- "$dir"
`;

function install(dir: string, remove: boolean): number {
  const folder = folderOf(dir);
  const bin = launcher();
  for (const [name, text] of [
    ["mount.fuse.ocfs2", mountHelper(bin)],
    ["umount.fuse.ocfs2", umountHelper(bin)],
  ] as const) {
    const path = join(folder, name);
    if (existsSync(path) && !readFileSync(path, "utf8").includes(MARK))
      throw new CliError(1, `${path} is there and not ours: remove it first`);
    if (remove) rmSync(path, { force: true });
    else {
      writeFileSync(path, text);
      chmodSync(path, 0o755);
    }
    process.stdout.write(`${remove ? "removed" : "installed"} ${path}\n`);
  }
  return 0;
}

export const installHelperCommand = new Command("install-helper")
  .description("make `mount -t fuse.ocfs2`, /etc/fstab and `umount DEVICE` work")
  .option("--dir <folder>", "where mount(8) looks", "/sbin")
  .option("--remove", "take the helpers away again")
  .action((o: { dir: string; remove?: boolean }) => {
    try {
      process.exitCode = install(o.dir, o.remove === true);
    } catch (err) {
      process.exitCode = report("install-helper", err);
    }
  });
