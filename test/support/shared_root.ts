/** A root of a small Debian, copied from this machine's own packages: a shell, the usual tools, perl, and a C compiler with what it needs. */
import { existsSync, lstatSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "./cleanup.ts";
import { missing, sh, trySh } from "./sh.ts";

/** What no program reads. */
const LEFT_OUT = /^\/usr\/share\/(doc|man|info|locale|lintian|bug)\/|^\/var\//;
/** What no package owns. */
const OTHERS = ["/usr/bin/awk", "/etc/alternatives/awk", "/etc/passwd", "/etc/group", "/etc/ld.so.cache"];

function packages(): string[] {
  const major = sh(["gcc", "-dumpversion"]).trim().split(".")[0];
  return [
    ...[
      "bash",
      "dash",
      "coreutils",
      "sed",
      "grep",
      "mawk",
      "tar",
      "gzip",
      "findutils",
      "diffutils",
      "perl-base",
      "make",
    ],
    ...["libc6", "libc-bin", "libc6-dev", "linux-libc-dev", "gcc", "cpp", `gcc-${major}`, `cpp-${major}`],
    ...["binutils", "binutils-x86-64-linux-gnu", "libbinutils", `libgcc-${major}-dev`],
  ];
}

/** Why there can be no such root here. */
export function rootUnavailable(): string | undefined {
  const programs = missing("dpkg-query", "gcc", "tar", "ldd");
  if (programs.length > 0) return `not installed: ${programs.join(", ")}`;
  const lacking = packages().filter((p) => trySh(["dpkg-query", "-W", p]).status !== 0);
  return lacking.length > 0 ? `not installed: ${lacking.join(", ")}` : undefined;
}

/** The files of the packages, and the libraries that their programs load. */
function files(): string[] {
  const all = new Set(OTHERS.filter((p) => existsSync(p)));
  for (const path of sh(["dpkg", "-L", ...packages()]).split("\n")) {
    if (!path.startsWith("/") || LEFT_OUT.test(path) || !existsSync(path)) continue;
    if (!lstatSync(path).isDirectory()) all.add(path);
  }
  const own = withTargets(all);
  const programs = own.filter((p) => /\/(s?bin|lib\/gcc\/[^/]+\/[^/]+)\/[^/]+$/.test(p) && lstatSync(p).isFile());
  const libraries = trySh(["ldd", ...programs]).stdout.matchAll(/(\/\S+) \(0x/g);
  return withTargets([...own, ...[...libraries].map((m) => m[1]!)]);
}

/** Paths as they are with /bin a link to /usr/bin, each once, and what the links among them name. */
function withTargets(paths: Iterable<string>): string[] {
  const merged = [...paths].map((p) => p.replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/")).filter((p) => existsSync(p));
  const links = merged.filter((p) => lstatSync(p).isSymbolicLink());
  return [
    ...new Set([
      ...merged,
      ...sh(["readlink", "-f", ...links])
        .trim()
        .split("\n"),
    ]),
  ].sort();
}

/** Makes the root in `dir`; how many files it took. */
export function makeRoot(dir: string): number {
  const paths = files();
  const folders = ["proc", "dev", "tmp", "var", "srv", "root", "etc", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"];
  sh(["mkdir", "-p", ...folders.map((d) => join(dir, d))]);
  for (const d of ["bin", "sbin", "lib", "lib64"]) sh(["ln", "-s", `usr/${d}`, join(dir, d)]);
  const list = join(tempDir("ocfs2-root"), "list");
  writeFileSync(list, paths.map((p) => `${p.slice(1)}\n`).join(""));
  const copy = 'tar -C / -c --no-recursion -T "$1" | tar -C "$2" -x --no-same-owner';
  sh(["bash", "-o", "pipefail", "-c", copy, "copy", list, dir]);
  return paths.length;
}
