/** Mounts a tree of the node at a folder: configfs, whose thread asks here; and /dev/fuse for dlmfs (dlm_thread.ts). */
import type { ConfigTree, Entry } from "../cluster/configfs.ts";
import { S_IFDIR, S_IFREG } from "../format/disk/index.ts";
import type { AskTree, TreeAnswer, TreeAsk } from "../fuse/tree_server.ts";
import type { FromTree, ToTree, TreeWorkerData } from "../fuse/tree_worker.ts";
import { byteName, textOfName } from "../lib/byte_name.ts";
import { Errno, errnoName } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { closeFd, fuseOpen, MNT_DETACH, mount2, umount2 } from "../native/index.ts";
import { abortAtEnd } from "./abort_at_end.ts";
import { mountFailed, noFuse } from "./errors.ts";
import { RingWorker } from "./ring_worker.ts";

const modeOf = (entry: Entry): number => ("dir" in entry ? S_IFDIR | 0o755 : S_IFREG | entry.file.mode);

/** Answers one question of the FUSE server; some when the tree has done its work. */
export function askConfigTree(tree: ConfigTree, ask: TreeAsk, done: (answer: TreeAnswer) => void): void {
  const late = (err: number): void => done({ err });
  const settle = (err: number | undefined): void => {
    if (err !== undefined) done({ err });
  };
  const path = ask.path.map(textOfName);
  const parent = tree.resolve(path.slice(0, -1));
  const name = path.at(-1) ?? "";
  if (ask.what === "mkdir" || ask.what === "rmdir") {
    const dir = parent !== undefined && "dir" in parent ? parent.dir : undefined;
    if (dir === undefined) return done({ err: -Errno.ENOENT });
    if (ask.what === "mkdir") return settle(dir.mkdir?.(name) ?? -Errno.EPERM);
    return dir.rmdir === undefined ? done({ err: -Errno.EPERM }) : settle(dir.rmdir(name, late));
  }
  if (ask.what === "create" || ask.what === "unlink") return done({ err: -Errno.EPERM });
  if (ask.what === "open" || ask.what === "close") return done({ err: 0 });
  // Attributes are always ready: so says the kernel once it hears this.
  if (ask.what === "poll" || ask.what === "await") return done({ err: -Errno.ENOSYS });
  const entry = tree.resolve(path);
  if (entry === undefined) return done({ err: -Errno.ENOENT });
  if (ask.what === "stat") return done({ err: 0, mode: modeOf(entry) });
  if ("dir" in entry) {
    if (ask.what !== "list") return done({ err: -Errno.EISDIR });
    const names = entry.dir.names().map((n) => ({ name: byteName(n), mode: modeOf(entry.dir.get(n)!) }));
    return done({ err: 0, names });
  }
  if (ask.what === "read") return done({ err: 0, text: entry.file.show() });
  if (ask.what !== "write") return done({ err: -Errno.ENOTDIR });
  if (entry.file.store === undefined) return done({ err: -Errno.EACCES });
  settle(entry.file.store(ask.text ?? "", ask.pid ?? 0, late));
}

export function mountFuse(kind: "configfs" | "dlmfs", dir: string): { fd: number; forgetAbort: () => void } {
  if (process.getuid?.() !== 0)
    throw mountFailed(`${kind} cannot be mounted on ${dir}: start the node as root for that`);
  const fd = fuseOpen();
  if (fd < 0) throw mountFailed(noFuse(-fd));
  const rc = mount2(
    `ocfs2-${kind}`,
    dir,
    `fuse.ocfs2-${kind}`,
    0,
    `fd=${fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`,
  );
  if (rc < 0) {
    closeFd(fd);
    throw mountFailed(`${kind} cannot be mounted on ${dir}: ${errnoName(-rc)}`);
  }
  try {
    return { fd, forgetAbort: abortAtEnd(dir) };
  } catch (err) {
    umount2(dir, MNT_DETACH);
    closeFd(fd);
    throw err;
  }
}

/** A tree of the node that is mounted. */
export interface MountedTree {
  readonly dir: string;
  /** Nobody has it mounted or open any more, whoever unmounted it. */
  readonly gone: Promise<void>;
}

/** Mounts the tree; `drop` takes it away again. Throws CliError. */
export function mountConfigfs(answerTo: AskTree, dir: string): MountedTree & { drop(): void } {
  const { fd, forgetAbort } = mountFuse("configfs", dir);
  const workerData: TreeWorkerData = { fd };
  const worker = new RingWorker<ToTree, FromTree>("./tree_worker.js", workerData, ({ id, ask }) =>
    answerTo(ask, (answer) => worker.tell({ id, answer })),
  );
  worker.onError((err) => {
    mlog(ML.ERROR, `the thread of the configfs on ${dir}: ${err.message}`);
    umount2(dir, MNT_DETACH);
  });
  const gone = new Promise<void>((ok) =>
    worker.onExit(() => {
      forgetAbort();
      closeFd(fd);
      ok();
    }),
  );
  return { dir, gone, drop: () => void umount2(dir, MNT_DETACH) };
}
