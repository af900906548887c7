/**
 * File systems to run the same thing on: ours, and those it is measured against. All lie in image files in one folder, so that all
 * have the same disk below. A target is taken down whatever happens.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { atExit, forceUnmount, tempDir } from "./cleanup.ts";
import { mkfs, sparseFile } from "./images.ts";
import { Mount, mountPoint, mountUnavailable } from "./mount.ts";
import { missing, sh, trySh } from "./sh.ts";

export interface Target {
  readonly name: string;
  /** Where it is mounted. */
  readonly dir: string;
  /** The image, of those that have one. */
  readonly image: string | undefined;
  /** Unmounts; everything is on the image then. */
  stop(): Promise<void>;
}

export interface TargetOptions {
  /** The folder for the images; a temporary one if not given. */
  readonly base?: string;
  readonly size_mib?: number;
  readonly mkfs?: readonly string[];
  readonly mountOptions?: string;
  readonly mkfsExt4?: readonly string[];
  readonly mountExt4?: string;
  readonly env?: Record<string, string>;
  /** Starts our mount under other programs ("taskset -c 0", a profiler). */
  readonly nodeArgs?: readonly string[];
}

/** Why a target cannot be had here; undefined when it can. */
export function targetUnavailable(name: string): string | undefined {
  const root = process.getuid?.() === 0 ? undefined : "needs root";
  const lacks = (...programs: string[]): string | undefined => {
    const not = missing(...programs);
    return not.length === 0 ? root : `not installed: ${not.join(", ")}`;
  };
  switch (name) {
    case "ours":
      return mountUnavailable() ?? lacks("mkfs.ocfs2");
    case "ext4":
      return lacks("mkfs.ext4", "losetup");
    case "fuse2fs":
      return lacks("mkfs.ext4", "fuse2fs");
    case "bindfs":
      return lacks("mkfs.ext4", "losetup", "bindfs");
    default:
      return `no such target: ${name} (ours, ext4, fuse2fs, bindfs)`;
  }
}

function umount(dir: string): void {
  const ran = trySh(["umount", dir]);
  if (ran.status !== 0) throw new Error(`umount ${dir}: ${ran.stderr}`);
}

/** An ext4 file system in a loop device with direct I/O to its file, as a disk would have. */
function startExt4(name: string, options: TargetOptions): Target {
  const base = tempDir("ocfs2-target", options.base === undefined ? {} : { base: options.base });
  const image = join(base, "ext4");
  sparseFile(image, options.size_mib ?? 2048);
  sh(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", ...(options.mkfsExt4 ?? []), image]);
  const loop = sh(["losetup", "--direct-io=on", "--find", "--show", image]).trim();
  const detach = atExit(() => trySh(["losetup", "-d", loop]));
  const dir = mountPoint();
  const undo = atExit(() => forceUnmount(dir));
  sh(["mount", "-o", options.mountExt4 ?? "defaults", loop, dir]);
  return {
    name,
    dir,
    image,
    stop: async () => {
      umount(dir);
      undo();
      detach();
      rmSync(base, { recursive: true });
    },
  };
}

function startFuse2fs(options: TargetOptions): Target {
  const base = tempDir("ocfs2-target", options.base === undefined ? {} : { base: options.base });
  const image = join(base, "ext4");
  sparseFile(image, options.size_mib ?? 2048);
  sh(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]);
  const dir = mountPoint();
  const undo = atExit(() => forceUnmount(dir));
  sh(["fuse2fs", "-o", "fakeroot,allow_other,default_permissions", image, dir]);
  return {
    name: "fuse2fs",
    dir,
    image,
    stop: async () => {
      umount(dir);
      undo();
      // It goes on writing after the unmount.
      for (let i = 0; i < 600 && trySh(["fuser", "-s", image]).status === 0; i++)
        await new Promise((ok) => setTimeout(ok, 50));
      rmSync(base, { recursive: true });
    },
  };
}

/** A passthrough to a folder of ext4: what FUSE itself cannot do, it cannot do either. */
function startBindfs(options: TargetOptions): Target {
  const below = startExt4("ext4", options);
  const under = join(below.dir, "under");
  mkdirSync(under);
  const dir = mountPoint();
  const undo = atExit(() => forceUnmount(dir));
  sh(["bindfs", under, dir]);
  return {
    name: "bindfs",
    dir,
    image: undefined,
    stop: async () => {
      umount(dir);
      undo();
      await below.stop();
    },
  };
}

async function startOurs(options: TargetOptions): Promise<Target> {
  const base = tempDir("ocfs2-target", options.base === undefined ? {} : { base: options.base });
  const image = join(base, "ocfs2");
  mkfs(image, options.size_mib ?? 2048, options.mkfs ?? []);
  const mount = await Mount.start(image, {
    ...(options.mountOptions === undefined ? {} : { options: options.mountOptions }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.nodeArgs === undefined ? {} : { nodeArgs: options.nodeArgs }),
  });
  return { name: "ours", dir: mount.dir, image, stop: () => mount.unmount() };
}

export async function startTarget(name: string, options: TargetOptions = {}): Promise<Target> {
  const why = targetUnavailable(name);
  if (why !== undefined) throw new Error(`${name}: ${why}`);
  switch (name) {
    case "ours":
      return startOurs(options);
    case "ext4":
      return startExt4(name, options);
    case "fuse2fs":
      return startFuse2fs(options);
    default:
      return startBindfs(options);
  }
}
