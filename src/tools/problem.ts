/**
 * What went wrong with a path that a person named, in words and with what to do: node's own text, "ENOENT: no such file or directory, open '/x'", is one for
 * programs.
 */
import { realpathSync, statfsSync, statSync } from "node:fs";

const MAY_NOT = "may not be used: run as root, or give yourself access to it";
const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  ENOTDIR: "leads through what is no folder",
  EISDIR: "is a folder",
  EEXIST: "is there already",
  ELOOP: "is a symlink that leads nowhere",
  EACCES: MAY_NOT,
  EPERM: MAY_NOT,
  EROFS: "is on a file system that is read-only",
  ENOSPC: "is on a file system that is full",
};

const codeOf = (err: unknown): string => (err as NodeJS.ErrnoException | null)?.code ?? "";

/** `path` in case the error does not say of which; what is no error of the system stays as it is. */
export function problemOf(err: unknown, path?: string): string {
  const text = err instanceof Error ? err.message : String(err);
  const { syscall, path: its_path = path } = Object(err) as NodeJS.ErrnoException;
  const words = WORDS[codeOf(err)];
  return syscall === undefined || words === undefined || its_path === undefined ? text : `${its_path} ${words}`;
}

/** What came of opening a device that was named. */
export function deviceProblem(device: string, err: unknown): string {
  switch (codeOf(err)) {
    case "ENOENT":
      return `${device} does not exist`;
    case "EISDIR":
      return `${device} is a folder: name a block device or a file with a volume (df shows the device of a mount)`;
    case "EACCES":
    case "EPERM":
      return `${device} may not be read: run as root, or give yourself access to it`;
    default: {
      const text = problemOf(err, device);
      return text.startsWith(`${device} `) ? text : `${device}: ${text}`;
    }
  }
}

/** The real path of a folder that something is to be put into, or mounted on. Throws what is wrong with it. */
export function folderOf(dir: string): string {
  // What a script's variable without a value leaves; realpath takes it for the folder that one is in.
  if (dir === "") throw new Error("an empty name is no folder");
  let real: string;
  try {
    real = realpathSync(dir);
    // What a mount's process has said of the folder the kernel may still know when that is dead; this it has to ask for.
    statfsSync(real);
  } catch (err) {
    if (codeOf(err) === "ENOTCONN")
      throw new Error(`${dir} has the mount of a process that has ended: "ocfs2 umount ${dir}" first`);
    if (codeOf(err) === "ENOENT") throw new Error(`${dir} does not exist: make the folder first`);
    throw new Error(problemOf(err, dir));
  }
  if (!statSync(real).isDirectory()) throw new Error(`${dir} is not a folder`);
  return real;
}
