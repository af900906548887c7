/**
 * The house rules that a program can check (CONTRIBUTING.md, docs/ARCHITECTURE.md): imports go down, time and disk and chance are
 * handed in, nothing is left half done, and what documents point at is there. A failure names the place and what to do.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tracked = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const self = "test/tidy.test.ts";

const sources = tracked.filter((path) => path.startsWith("src/") && path.endsWith(".ts") && !isTest(path));

function isTest(path: string): boolean {
  return path.endsWith(".test.ts") || path.startsWith("test/") || path.endsWith("_fixture.ts");
}

/** The file without what is in comments; lines keep their numbers. */
const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, " ")).replace(/(^|[\s;,{(])\/\/.*$/gm, "$1");

const lineOf = (text: string, at: number): number => text.slice(0, at).split("\n").length;

// Layers --------------------------------------------------------------------------------------------------------------

/** From the lowest to the highest. A folder may import those below it, not its neighbours in a row. */
const LAYERS = [
  ["lib"],
  ["format"],
  ["native", "wasm"],
  ["block"],
  ["journal"],
  ["cluster"],
  ["dlm"],
  ["stackglue"],
  ["dlmglue"],
  ["volume"],
  ["vfs"],
  ["fuse", "tools", "api"],
  ["cli"],
];
const levelOf = (folder: string): number => LAYERS.findIndex((row) => row.includes(folder));

/** Types only: what a lock or a page belongs to has a name down there. */
const TYPES_UPWARDS = new Set(["dlmglue volume", "block volume"]);

const IMPORT = /(?:^|\n)\s*(import|export)(\s+type)?\s([^;]*?)from\s+"(\.[^"]+)"/g;

function importsOf(path: string): { target: string; types_only: boolean; line: number }[] {
  const text = withoutComments(read(path));
  return [...text.matchAll(IMPORT)].map((m) => {
    const names = m[3]!.replace(/[{}]/g, "").split(",");
    const types_only = m[2] !== undefined || names.every((n) => n.trim() === "" || n.trim().startsWith("type "));
    return {
      target: posix.join(posix.dirname(path), m[4]!),
      types_only,
      line: lineOf(text, m.index + m[0].length),
    };
  });
}

describe("layers", () => {
  test("every folder of src has its place in the list", () => {
    const folders = new Set(sources.map((path) => path.split("/")[1]!));
    expect([...folders].filter((folder) => levelOf(folder) < 0)).toEqual([]);
  });

  test("an import goes down the list, never up", () => {
    const wrong: string[] = [];
    for (const path of sources) {
      const from = path.split("/")[1]!;
      for (const { target, types_only, line } of importsOf(path)) {
        const to = target.split("/")[1]!;
        if (!target.startsWith("src/") || from === to || levelOf(to) < levelOf(from)) continue;
        if (types_only && TYPES_UPWARDS.has(`${from} ${to}`)) continue;
        wrong.push(`${path}:${line} imports ${target}: ${from} lies below ${to}; take a function from above instead`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("what is imported is there, with its ending", () => {
    const wrong = sources.flatMap((path) =>
      importsOf(path)
        .filter(({ target }) => !existsSync(join(root, target)) || !/\.(ts|json)$/.test(target))
        .map(({ target, line }) => `${path}:${line} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });
});

// What the code below the edges must not touch --------------------------------------------------------------------------

interface Ban {
  readonly what: RegExp;
  readonly instead: string;
  readonly allowed: readonly string[];
}

const EDGES = ["src/native/", "src/cli/", "src/tools/"];

const BANS: readonly Ban[] = [
  {
    what: /\bDate\.now\b|\bnew Date\(\)|\bperformance\.|\bprocess\.hrtime\b/g,
    instead: "osb.clock, or op.now inside an operation",
    allowed: [...EDGES, "src/lib/clock.ts"],
  },
  {
    what: /\bMath\.random\b|\bgetRandomValues\b|\brandomBytes\b/g,
    instead: "the Random that is handed in (osb.random)",
    allowed: [...EDGES, "src/lib/clock.ts"],
  },
  {
    what: /\bset(?:Timeout|Interval|Immediate)\b/g,
    instead: "clock.after",
    // The library runs on node's event loop: its clock's timers must not keep a program alive.
    allowed: [...EDGES, "src/lib/clock.ts", "src/api/open_volume.ts"],
  },
  {
    what: /"node:(?:fs|fs\/promises|child_process)"/g,
    instead: "the BlockDevice that is handed in",
    // The device itself, the built module, what /proc says of notifier threads, the kernel's chance, node's own numbers of flags, and its streams.
    allowed: [
      ...EDGES,
      "src/lib/clock.ts",
      "src/block/file_device.ts",
      "src/fuse/dev_fuse.ts",
      "src/fuse/notifier_worker.ts",
      "src/wasm/arena.ts",
      ...["open_flags", "attributes", "copy_file", "tree", "promises", "callbacks", "streams"].map(
        (f) => `src/api/${f}.ts`,
      ),
    ],
  },
  {
    what: /"node:(?:net|dgram|http|https|tls|dns)"/g,
    instead: "the Transport that is handed in",
    allowed: EDGES,
  },
  {
    what: /\bconsole\.\w+/g,
    instead: "mlog (lib/masklog.ts)",
    allowed: ["src/cli/", "src/tools/"],
  },
  {
    what: /\bprocess\.exit\b|\bprocess\.exitCode\b/g,
    instead: "an error: only cli/ ends the process",
    allowed: ["src/cli/"],
  },
];

describe("no hidden world", () => {
  for (const { what, instead, allowed } of BANS) {
    test(`${what.source}: use ${instead}`, () => {
      const wrong = sources
        .filter((path) => !allowed.some((prefix) => path.startsWith(prefix)))
        .flatMap((path) => {
          const text = withoutComments(read(path));
          return [...text.matchAll(what)].map((m) => `${path}:${lineOf(text, m.index)} ${m[0]}: use ${instead}`);
        });
      expect(wrong).toEqual([]);
    });
  }
});

// Leftovers and lies ----------------------------------------------------------------------------------------------------

const texts = tracked.filter((path) => /\.(ts|mjs|js|rs|sh|md|toml|c|h)$/.test(path) && path !== self);

function occurrences(what: RegExp, paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const text = read(path);
    return [...text.matchAll(what)].map((m) => `${path}:${lineOf(text, m.index)} ${m[0]}`);
  });
}

describe("nothing is left over", () => {
  test("no open ends: do it, or write an issue", () => {
    // TAP has a "# TODO" of its own, which the runner of pjdfstest reads.
    const found = occurrences(/\b(?:FIXME|TODO|XXX|HACK)\b/g, texts);
    expect(found.filter((line) => !line.startsWith("test/e2e/pjdfstest_run.ts"))).toEqual([]);
  });

  test("no test that is switched off for good or runs alone", () => {
    const found = occurrences(/\b(?:test|it|describe)\.(?:only|skip|todo)\(/g, tracked.filter(isTest));
    expect(found.filter((line) => !line.startsWith(self))).toEqual([]);
  });

  test("no paths of one machine", () => {
    const found = occurrences(/(?<![\w.])\/(?:home\/\w+|root|Users|work)\//g, texts);
    expect(found.filter((line) => !/^test\/library\//.test(line))).toEqual([]);
  });

  test("what documents and comments point at is there", () => {
    const missing: string[] = [];
    const need = (path: string, at: number, text: string, target: string, bases: readonly string[]): void => {
      if (!bases.some((base) => existsSync(join(root, base, target))))
        missing.push(`${path}:${lineOf(text, at)} ${target} is not there`);
    };
    for (const path of texts) {
      const text = read(path);
      for (const m of text.matchAll(/\bdocs\/[\w.]+\.md\b/g)) need(path, m.index, text, m[0], ["."]);
      if (!path.endsWith(".md") || path === "CHANGELOG.md") continue;
      for (const m of text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g))
        need(path, m.index, text, m[1]!, [dirname(path)]);
      for (const m of text.matchAll(/`((?:src|test|scripts|bench|native|asm|bin)\/[\w./-]+)`/g))
        need(path, m.index, text, m[1]!, ["."]);
      for (const m of text.matchAll(/\bnpm (?:run )?(\w+)\b/g)) {
        const built_in = ["ci", "install", "pack", "link", "publish"].includes(m[1]!);
        if (!built_in && JSON.parse(read("package.json")).scripts[m[1]!] === undefined)
          missing.push(`${path}:${lineOf(text, m.index)} ${m[0]} is no script`);
      }
    }
    expect(missing).toEqual([]);
  });
});
