import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MS, mountOptionNames, OptionError, parseMountOptions } from "./mount_opts.ts";

/** Options in the first column of the table of docs/COMMANDS.md. */
function documented(): string[] {
  const text = readFileSync(join(import.meta.dirname, "../../docs/COMMANDS.md"), "utf8");
  const rows = text
    .split("<!-- mount options -->")[1]!
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  return rows.flatMap((row) => [...row.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map((m) => m[1]!));
}

/** Values for the words that stand for one. */
const EXAMPLES: Record<string, string> = {
  S: "7",
  MB: "4",
  N: "64",
  SIZE: "64M",
  FILE: "/f",
  NAME: "a",
  MS: "10",
  "…": "local",
};
const LIMITS: Record<string, string> = { resv_level: "3", dir_resv_level: "3", fuse_minor: "43" };

describe("mount options", () => {
  test("docs/COMMANDS.md has all, and no other", () => {
    const names = documented().map((option) => option.split("=")[0]!);
    expect([...new Set(names)].sort()).toEqual(mountOptionNames().sort());
  });

  test.each(documented())("%s is taken", (option) => {
    const [name = "", word] = option.split("=");
    const value = word && (LIMITS[name] ?? EXAMPLES[word] ?? word.replace("SEED", "1"));
    const text = value === undefined ? name : `${name}=${value}`;
    expect(() => parseMountOptions([text])).not.toThrow();
  });

  test("what is not known is refused by name", () => {
    const unknown = new OptionError("unknown mount option fast");
    expect(() => parseMountOptions(["ro,fast"])).toThrow(unknown);
    expect(() => parseMountOptions(["remount,fast"])).toThrow(unknown);
    // As mount(8) hands over what /proc/mounts says, for `mount -o remount,nosuid DIR`.
    const of_the_mount = "user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576";
    const parsed = parseMountOptions([`rw,noatime,remount,nosuid,${of_the_mount}`]);
    expect(parsed).toMatchObject({ remount: true, flags: MS.NOSUID | MS.NOATIME });
    expect(() => parseMountOptions([of_the_mount])).toThrow(new OptionError("unknown mount option user_id"));
  });

  test.each([
    [
      "journal_async_commit",
      "option journal_async_commit: the journal keeps the features that mkfs gave it: leave it out",
    ],
    ["cluster_stack=pcmk", "cluster_stack=pcmk is none of o2cb"],
    ["heartbeat=slow", "heartbeat=slow is none of local, none, global"],
  ])("of the kernel's, what cannot be is refused, saying why: %s", (option, why) => {
    expect(() => parseMountOptions([option])).toThrow(new OptionError(why));
  });

  test("the last one counts", () => {
    expect(parseMountOptions(["ro", "rw,noatime,atime"]).volume).toMatchObject({ ro: false, noatime: false });
  });
});
