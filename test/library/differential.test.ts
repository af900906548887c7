/**
 * Random calls of every function of node:fs/promises and of its FileHandle, with every form that their arguments have and with
 * some that they must refuse, made in a folder and on a volume: answers, errors and what is left are the same. random.test.ts
 * looks at names and paths; this looks at arguments, options, handles and streams.
 *
 * OCFS2_RUNS and OCFS2_SEED look further.
 */
import { constants as C } from "node:fs";
import * as node_promises from "node:fs/promises";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { FileHandle, FsPromises, Stats } from "../../src/api/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { lacksTools, newImage, onVolume } from "./support.ts";

/** One side: its file system, the folder that all happens in, and the handles that are open. */
interface Side {
  readonly fs: FsPromises;
  readonly root: string;
  readonly handles: Map<number, FileHandle>;
}

/** Choices made by the numbers of a call. */
class Draw {
  readonly shown: string[] = [];
  readonly #numbers: readonly number[];
  #next = 0;
  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }
  pick<T>(...from: readonly T[]): T {
    const chosen = from[(this.#numbers[this.#next++] ?? 0) % from.length]!;
    this.shown.push(show(chosen));
    return chosen;
  }
}

const show = (x: unknown): string =>
  typeof x === "bigint"
    ? `${x}n`
    : typeof x === "object" && x !== null
      ? (Object.getPrototypeOf(x)?.constructor?.name ?? "") +
        JSON.stringify(x, (_, v) => (typeof v === "bigint" ? `${v}n` : v))?.slice(0, 80)
      : typeof x === "function"
        ? x.name
        : (JSON.stringify(x) ?? String(x));

const NAMES = [
  "/a",
  "/b",
  "/d",
  "/d/a",
  "/d/b",
  "/d/d",
  "/l",
  "/d/l",
  "/d/d/é",
  "/",
  "/a/",
  "/d/",
  "/none/x",
  "/a/x",
  "/d/../b",
];

function pathOf(s: Side, d: Draw, names: readonly string[] = NAMES): string {
  const path = s.root + d.pick(...names);
  const form = d.pick("text", "text", "text", "buffer", "url", "bytes");
  if (form === "buffer") return Buffer.from(path) as never;
  if (form === "bytes") return new Uint8Array(Buffer.from(path)) as never;
  if (form === "url") return pathToFileURL(path) as never;
  return path;
}
/** Sometimes what is no path. */
const anyPath = (s: Side, d: Draw): string =>
  d.pick(0, 0, 0, 0, 0, 0, 0, 1) === 0
    ? pathOf(s, d)
    : (d.pick<unknown>(undefined, null, 5, {}, "", `${s.root}/a\0b`) as never);

const ENCODINGS = ["utf8", "latin1", "hex", "base64", "utf16le", "buffer", "bogus", null, undefined] as never[];
const TEXT = ["", "text", "häß 🎉", "00ff7f", "x".repeat(5000), "one\ntwo\r\nthree\n"];
const BYTES = () => [
  Buffer.from("bytes"),
  Buffer.alloc(70_000, "abcdefg"),
  Buffer.alloc(0),
  new Uint16Array([1, 2, 770]),
  new DataView(new ArrayBuffer(7), 2, 3),
];
const FLAGS = [
  "r",
  "r+",
  "rs+",
  "w",
  "wx",
  "w+",
  "wx+",
  "a",
  "ax",
  "a+",
  "ax+",
  "as",
  "as+",
  C.O_RDONLY,
  C.O_RDWR,
  C.O_WRONLY | C.O_CREAT,
  C.O_RDWR | C.O_CREAT | C.O_EXCL,
  C.O_RDONLY | C.O_TRUNC,
  C.O_RDWR | C.O_APPEND,
  C.O_RDONLY | C.O_DIRECTORY,
  C.O_RDONLY | C.O_NOFOLLOW,
  C.O_RDWR | C.O_CREAT | C.O_SYNC,
  undefined,
  null,
  "bogus",
  "",
  1.5,
  true,
  {},
] as never[];
const MODES = [undefined, 0o600, "644", 0o4755, null, "9", -1, 1.5, {}] as never[];
const SIGNALS = () => [undefined, undefined, new AbortController().signal, AbortSignal.abort(), {}] as never[];

async function* pieces(text: string) {
  yield text;
  yield Buffer.from(text);
}
const dataOf = (d: Draw): never => {
  const kind = d.pick("text", "bytes", "iterable", "generator", "stream", "odd");
  if (kind === "text") return d.pick(...TEXT) as never;
  if (kind === "bytes") return BYTES()[d.pick(0, 1, 2, 3, 4)] as never;
  if (kind === "iterable") return [d.pick(...TEXT), "more"] as never;
  if (kind === "generator") return pieces(d.pick(...TEXT)) as never;
  if (kind === "stream") return Readable.from([d.pick(...TEXT), "end"]) as never;
  return d.pick<unknown>(undefined, null, 5, {}, true, [1], [{}], Symbol.iterator, { toString: () => "x" }) as never;
};

const writeOptions = (d: Draw): never => {
  const form = d.pick("none", "word", "object", "odd");
  if (form === "none") return undefined as never;
  if (form === "word") return d.pick(...ENCODINGS);
  if (form === "odd") return d.pick<unknown>(null, 5, true, {}, () => 1) as never;
  const o: Record<string, unknown> = {};
  const key = d.pick("encoding", "flag", "mode", "flush", "signal");
  if (key === "encoding") o[key] = d.pick(...ENCODINGS);
  if (key === "flag") o[key] = d.pick(...FLAGS);
  if (key === "mode") o[key] = d.pick(...MODES);
  if (key === "flush") o[key] = d.pick<unknown>(true, false, undefined, null, 1, "yes");
  if (key === "signal") o[key] = d.pick(...SIGNALS());
  return o as never;
};
const READ_ENCODINGS = ENCODINGS.filter((e) => (e as unknown) !== "buffer");
const readOptions = (d: Draw): never => {
  const form = d.pick("none", "word", "object", "odd");
  if (form === "none") return undefined as never;
  if (form === "word") return d.pick(...READ_ENCODINGS);
  if (form === "odd") return d.pick<unknown>(null, 5, true, {}, () => 1) as never;
  const key = d.pick("encoding", "flag", "signal");
  return {
    [key]: key === "encoding" ? d.pick(...READ_ENCODINGS) : key === "flag" ? d.pick(...FLAGS) : d.pick(...SIGNALS()),
  } as never;
};
// utf16le has no name for some bytes.
const NAME_ENCODINGS = ENCODINGS.filter((e) => (e as unknown) !== "utf16le");
const nameOptions = (d: Draw): never => {
  const encoding = d.pick(...NAME_ENCODINGS);
  return d.pick(0, 1, 2) === 0 ? encoding : (d.pick<unknown>({ encoding }, undefined, null, 5, true) as never);
};
const statOptions = (d: Draw): never => d.pick<unknown>(undefined, { bigint: true }, { bigint: false }, {}) as never;
const numbers = (d: Draw): never =>
  d.pick<unknown>(0, 1, 3, 5000, 70_001, null, undefined, -1, 1.5, "3", {}, true, Number.NaN) as never;
/** Where node itself ends on what is no whole number. */
const whole = (d: Draw): never => d.pick<unknown>(0, 1, 3, 5000, 70_001, null, undefined, -1) as never;
const times = (d: Draw): never =>
  d.pick<unknown>(
    1,
    1_000_000_000.5,
    "77",
    "77.25",
    new Date(1_234_567_890_123),
    new Date(Number.NaN),
    undefined,
    null,
    "x",
    "",
    {},
    Number.NaN,
    5n,
    -1,
  ) as never;
const handleOf = (s: Side, d: Draw): FileHandle => {
  const h = s.handles.get(d.pick(0, 1, 2, 3));
  if (h === undefined) throw new Error("no such handle");
  return h;
};
/** node itself looks at a closed handle only where it comes to use it, when a function of fs is given one. */
const openHandleOf = (s: Side, d: Draw): FileHandle => {
  const h = handleOf(s, d);
  if (h.fd === -1) throw new Error("closed");
  return h;
};
const buffers = (d: Draw, none = true): never =>
  d.pick<() => unknown>(
    function two() {
      return [Buffer.from("one"), Buffer.from("two!")];
    },
    ...(none
      ? [
          function none() {
            return [];
          },
        ]
      : []),
    function mixed() {
      return [new Uint8Array(3), new Uint16Array(2), new DataView(new ArrayBuffer(4))];
    },
    function some_empty() {
      return [Buffer.alloc(0), Buffer.from("x"), Buffer.alloc(0)];
    },
    function texts() {
      return ["text"];
    },
    function no_list() {
      return Buffer.from("x");
    },
    function nothing() {
      return undefined;
    },
  )() as never;

const streamText = async (stream: Readable): Promise<unknown> => {
  const out: unknown[] = [];
  try {
    for await (const chunk of stream) out.push(chunk);
  } finally {
    // One that is not destroyed keeps its handle.
    stream.destroy();
  }
  const { bytesRead } = stream as unknown as { bytesRead: number };
  return [out.every((c) => typeof c === "string") ? out.join("") : Buffer.concat(out as Buffer[]), bytesRead];
};

/** One option of a stream, with a value that it may have. */
function streamOption(d: Draw, ...names: readonly string[]): Record<string, unknown> {
  const name = d.pick(...names);
  if (name === "encoding") return { [name]: d.pick("utf8", "latin1", "hex", undefined) };
  if (name === "signal") return { [name]: d.pick(undefined, new AbortController().signal) };
  if (["autoClose", "emitClose", "flush"].includes(name)) return { [name]: d.pick(false, true) };
  return { [name]: d.pick<unknown>(undefined, 0, 3, 4000) };
}

type Op = (s: Side, d: Draw) => Promise<unknown> | unknown;
const OPS: Record<string, Op> = {
  writeFile: (s, d) =>
    s.fs.writeFile(d.pick(0, 0, 0, 1) ? openHandleOf(s, d) : anyPath(s, d), dataOf(d), writeOptions(d)),
  appendFile: (s, d) =>
    s.fs.appendFile(d.pick(0, 0, 0, 1) ? openHandleOf(s, d) : anyPath(s, d), dataOf(d), writeOptions(d)),
  readFile: (s, d) => s.fs.readFile(d.pick(0, 0, 0, 1) ? openHandleOf(s, d) : anyPath(s, d), readOptions(d)),
  copyFile: async (s, d) => {
    const [from, to] = [anyPath(s, d), anyPath(s, d)];
    const mode = d.pick<unknown>(undefined, 0, C.COPYFILE_EXCL, C.COPYFILE_FICLONE, 8, -1, "x", null) as never;
    // libuv removes the destination when the source turns out to be a directory.
    if ((await s.fs.stat(from)).isDirectory()) return undefined;
    return s.fs.copyFile(from, to, mode);
  },
  cp: async (s, d) => {
    const [from, to] = [`${s.root}${d.pick(...NAMES)}`, `${s.root}${d.pick(...NAMES)}`];
    // node asks for both at once, and says what fails first.
    if ((await s.fs.lstat(from).catch(() => null)) === null) return undefined;
    // node leaves what is there where a symlink is to be.
    const there = [await s.fs.lstat(from).catch(() => null), await s.fs.lstat(to).catch(() => null)];
    if (
      there[1] &&
      (there[0]?.isSymbolicLink() ||
        (there[0]?.isDirectory() &&
          (await s.fs.readdir(from, { withFileTypes: true, recursive: true })).some((e) => e.isSymbolicLink())))
    )
      return undefined;
    const key = d.pick("recursive", "force", "dereference", "errorOnExist", "verbatimSymlinks", "preserveTimestamps");
    return s.fs.cp(from, to, { recursive: d.pick(true, true, false), [key]: d.pick<unknown>(true, false, undefined) });
  },
  truncate: (s, d) => s.fs.truncate(anyPath(s, d), d.pick(0, 1, 3, 5000, 70_001, undefined, -1)),
  mkdir: (s, d) =>
    s.fs.mkdir(
      anyPath(s, d),
      d.pick<unknown>(
        undefined,
        null,
        0o700,
        "755",
        {},
        { mode: 0o711 },
        { recursive: false },
        { recursive: 1 },
        { mode: "x" },
        true,
      ) as never,
    ),
  mkdirp: (s, d) =>
    s.fs.mkdir(anyPath(s, d), { recursive: true, mode: d.pick<number | string | undefined>(undefined, 0o700, "755") }),
  mkdtemp: async (s, d) => {
    const prefix = pathOf(s, d, ["/a", "/d/", "/none/x", "/a/x", "/d/é"]);
    const made = (await s.fs.mkdtemp(prefix, nameOptions(d))) as string | Buffer;
    // Names at random: not to be seen by the next calls.
    for (const dir of [s.root, `${s.root}/d`, `${s.root}/a`, `${s.root}/none`])
      for (const name of await s.fs.readdir(dir).catch(() => []))
        if (name.length > 5) await s.fs.rmdir(`${dir}/${name}`);
    return Buffer.isBuffer(made) ? ["Buffer", made.length > 0] : typeof made;
  },
  rmdir: (s, d) => s.fs.rmdir(anyPath(s, d)),
  unlink: (s, d) => s.fs.unlink(anyPath(s, d)),
  rm: (s, d) => {
    const name = d.pick("/a", "/b", "/d/a", "/d/d", "/l", "/none", "/a/x", "/d/d/é");
    return s.fs.rm(
      s.root + name,
      d.pick<unknown>(
        undefined,
        null,
        {},
        { recursive: true },
        { force: true },
        { recursive: true, force: true },
        { recursive: 1 },
        { force: "x" },
        { maxRetries: 2 },
        { retryDelay: -1 },
        5,
      ) as never,
    );
  },
  rename: (s, d) => s.fs.rename(anyPath(s, d), anyPath(s, d)),
  link: (s, d) => s.fs.link(anyPath(s, d), anyPath(s, d)),
  symlink: (s, d) =>
    s.fs.symlink(
      d.pick<unknown>("a", "d", "../b", "none", ".", "", "d/", Buffer.from("d/a"), 5, undefined, null) as never,
      anyPath(s, d),
      d.pick<unknown>(undefined, "file", "dir", null) as never,
    ),
  readlink: (s, d) => s.fs.readlink(anyPath(s, d), nameOptions(d)),
  realpath: (s, d) =>
    s.fs.realpath(
      anyPath(s, d),
      d.pick<unknown>("utf8", "hex", "latin1", { encoding: "buffer" }, "bogus", null, undefined, 5) as never,
    ),
  readdir: async (s, d) => {
    const form = d.pick("plain", "plain", "types", "recursive");
    if (form === "plain") return sorted(await s.fs.readdir(anyPath(s, d), nameOptions(d)));
    const encoding = d.pick(...NAME_ENCODINGS);
    if (form === "types") return sorted(await s.fs.readdir(anyPath(s, d), { encoding, withFileTypes: true }));
    return sorted(await s.fs.readdir(s.root + d.pick(...NAMES), { withFileTypes: true, recursive: true }));
  },
  opendir: async (s, d) => {
    const options = d.pick<unknown>(
      undefined,
      { bufferSize: 1 },
      { encoding: "latin1" },
      { encoding: "bogus" },
      { encoding: "buffer" },
      "hex",
      null,
    );
    const dir = await (s.fs.opendir as (p: string, o: unknown) => ReturnType<FsPromises["opendir"]>)(
      anyPath(s, d),
      options,
    );
    const out: unknown[] = [Buffer.from(dir.path).toString()];
    if (d.pick(0, 1) === 0) for await (const e of dir) out.push(e);
    else {
      for (let e = await dir.read(); e !== null; e = await dir.read()) out.push(e);
      await dir.close();
    }
    for (const call of [() => dir.read(), () => dir.close()])
      out.push(await (async () => call())().catch((e) => e.code));
    return sorted(out);
  },
  stat: (s, d) => s.fs.stat(anyPath(s, d), statOptions(d)),
  lstat: (s, d) => s.fs.lstat(anyPath(s, d), statOptions(d)),
  statfs: async (s, d) =>
    Object.entries(await s.fs.statfs(anyPath(s, d), statOptions(d)))
      .map(([k, v]) => [k, typeof v])
      .sort(),
  access: (s, d) =>
    s.fs.access(
      anyPath(s, d),
      d.pick<unknown>(undefined, C.F_OK, C.R_OK, C.W_OK, C.X_OK, 7, 8, -1, "x", null) as never,
    ),
  chmod: (s, d) => s.fs.chmod(anyPath(s, d), d.pick(...MODES)),
  chown: (s, d) => s.fs.chown(anyPath(s, d), d.pick<unknown>(0, 7, -1, "x", undefined) as never, d.pick(0, 8, -1)),
  lchown: (s, d) => s.fs.lchown(anyPath(s, d), d.pick<unknown>(0, 7, -1, "x", undefined) as never, d.pick(0, 8, -1)),
  lchmod: (s, d) => s.fs.lchmod(anyPath(s, d), 0o600),
  utimes: (s, d) => s.fs.utimes(anyPath(s, d), times(d), times(d)),
  lutimes: (s, d) => s.fs.lutimes(anyPath(s, d), times(d), times(d)),
  open: async (s, d) => {
    const slot = d.pick(0, 1, 2, 3);
    const h = await s.fs.open(anyPath(s, d), d.pick(...FLAGS), d.pick(...MODES));
    const before = s.handles.get(slot);
    s.handles.set(slot, h);
    await before?.close();
    return [typeof h.fd, h.fd > 2];
  },
  "handle.close": async (s, d) => {
    const h = handleOf(s, d);
    await h.close();
    return [await h.close(), h.fd];
  },
  "handle.read": (s, d) => {
    const h = handleOf(s, d) as unknown as { read: (...args: unknown[]) => Promise<unknown> };
    const buffer = d.pick<() => unknown>(
      function ten() {
        return Buffer.alloc(10);
      },
      function none() {
        return Buffer.alloc(0);
      },
      function words() {
        return new Uint16Array(4);
      },
      function view() {
        return new DataView(new ArrayBuffer(20), 5, 9);
      },
      function text() {
        return "text";
      },
      function array() {
        return [1, 2];
      },
      function no() {
        return undefined;
      },
      function big() {
        return Buffer.alloc(80_000);
      },
      function number() {
        return 5;
      },
    )();
    const form = d.pick("alone", "offset", "length", "all", "options", "buffer and options");
    if (form === "alone") return h.read(buffer);
    if (form === "offset") return h.read(buffer, numbers(d));
    if (form === "length") return h.read(buffer, d.pick(0, 1), whole(d));
    if (form === "all") return h.read(buffer, d.pick(0, 2), d.pick(1, 3, 7), numbers(d));
    const o = {
      [d.pick("offset", "length", "position")]: whole(d),
      [d.pick("offset", "length", "position")]: d.pick(0, 1, 4),
    };
    if (form === "options") return h.read({ buffer, ...o });
    return h.read(buffer, o);
  },
  "handle.write": (s, d) => {
    const h = handleOf(s, d) as unknown as { write: (...args: unknown[]) => Promise<unknown> };
    const form = d.pick("text", "text position", "text encoding", "alone", "offset", "length", "all", "options", "odd");
    if (form === "text") return h.write(d.pick(...TEXT));
    if (form === "text position") return h.write(d.pick(...TEXT), numbers(d));
    if (form === "text encoding") return h.write(d.pick(...TEXT), d.pick(null, 2, undefined), d.pick(...ENCODINGS));
    if (form === "odd")
      return h.write(d.pick<unknown>(undefined, null, 5, {}, [], true, { toString: () => "x" }), numbers(d));
    const buffer = BYTES()[d.pick(0, 1, 2, 3, 4)];
    if (form === "alone") return h.write(buffer);
    if (form === "offset") return h.write(buffer, numbers(d));
    if (form === "length") return h.write(buffer, d.pick(0, 1), whole(d));
    if (form === "all") return h.write(buffer, d.pick(0, 2), d.pick(1, 3, 7), numbers(d));
    return h.write(buffer, { [d.pick("offset", "length", "position")]: whole(d) });
  },
  "handle.readv": (s, d) => handleOf(s, d).readv(buffers(d, false), numbers(d)),
  "handle.writev": (s, d) => handleOf(s, d).writev(buffers(d), numbers(d)),
  "handle.readFile": (s, d) => handleOf(s, d).readFile(readOptions(d)),
  "handle.writeFile": (s, d) => handleOf(s, d).writeFile(dataOf(d), writeOptions(d)),
  "handle.appendFile": (s, d) => handleOf(s, d).appendFile(dataOf(d), writeOptions(d)),
  "handle.stat": (s, d) => handleOf(s, d).stat(statOptions(d)),
  "handle.truncate": (s, d) => handleOf(s, d).truncate(numbers(d)),
  "handle.chmod": (s, d) => handleOf(s, d).chmod(d.pick(...MODES)),
  "handle.chown": (s, d) => handleOf(s, d).chown(d.pick<unknown>(0, 7, -1, "x", undefined) as never, d.pick(0, 8, -1)),
  "handle.utimes": (s, d) => handleOf(s, d).utimes(times(d), times(d)),
  "handle.sync": (s, d) => handleOf(s, d).sync(),
  "handle.datasync": (s, d) => handleOf(s, d).datasync(),
  "handle.readLines": async (s, d) => {
    const lines: string[] = [];
    for await (const line of handleOf(s, d).readLines({
      [d.pick("encoding", "start", "autoClose")]: d.pick<unknown>(undefined, undefined),
    } as never))
      lines.push(line);
    return lines;
  },
  "handle.createReadStream": (s, d) => {
    const option = streamOption(d, "encoding", "start", "end", "highWaterMark", "autoClose", "emitClose", "signal");
    const stream = handleOf(s, d).createReadStream({
      ...option,
      ...(d.pick(0, 1) ? { start: d.pick(0, 2, 9) } : {}),
    } as never);
    return streamText(stream);
  },
  "handle.createWriteStream": async (s, d) => {
    const option = streamOption(d, "encoding", "start", "highWaterMark", "autoClose", "flush", "signal");
    const stream = handleOf(s, d).createWriteStream(option as never);
    await new Promise<void>((ok, no) => {
      stream.on("error", no);
      stream.on("close", ok);
      stream.on("finish", () => stream.destroy());
      stream.write(d.pick(...TEXT));
      stream.end(Buffer.from("end"));
    });
    return [stream.bytesWritten];
  },
};

const keyOf = (x: unknown): string =>
  typeof x === "string"
    ? x
    : Buffer.isBuffer(x)
      ? x.toString("hex")
      : typeof x === "object" && x !== null && "name" in x
        ? `${String((x as { parentPath?: string }).parentPath)}/${Buffer.isBuffer(x.name) ? x.name.toString("hex") : String(x.name)}`
        : String(x);
const sorted = (list: readonly unknown[]): unknown[] => [...list].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));

/** Times that somebody set are in the past; the others are left out. libuv keeps microseconds, cut off. */
const setTime = (ms: number): unknown => (ms < 1.6e12 ? Math.round(ms) : "now");

function plain(x: unknown, strip: (text: string) => string): unknown {
  if (typeof x === "string") return strip(x).length > 300 ? `${strip(x).slice(0, 300)}…${x.length}` : strip(x);
  if (typeof x === "bigint") return `${x}n`;
  if (typeof x === "function") return "function";
  if (ArrayBuffer.isView(x)) {
    const b = Buffer.from(x.buffer, x.byteOffset, x.byteLength);
    const text = strip(b.toString("latin1"));
    return [x.constructor.name, text.length > 300 ? `${text.slice(0, 300)}…${b.length}` : text];
  }
  if (Array.isArray(x)) return x.map((y) => plain(y, strip));
  if (x instanceof Date) return x.getTime() < 1.6e12 ? x.toISOString() : "now";
  if (typeof x !== "object" || x === null) return x;
  if ("isFile" in x && "mtime" in x) {
    const s = x as Stats;
    const dir = s.isDirectory();
    return {
      keys: Object.keys(s).sort().join(),
      mode: s.mode.toString(8),
      type: typeof s.mode,
      nlink: dir ? "dir" : String(s.nlink),
      owner: `${s.uid} ${s.gid}`,
      size: s.isFile() ? String(s.size) : "",
      rdev: String(s.rdev),
      is: [s.isFile(), dir, s.isSymbolicLink(), s.isBlockDevice(), s.isCharacterDevice(), s.isFIFO(), s.isSocket()],
      mtime: [
        setTime(s.mtime.getTime()),
        setTime(Number(s.mtimeMs)),
        setTime(Number((s as unknown as { mtimeNs?: bigint }).mtimeNs ?? 0) / 1e6),
      ],
    };
  }
  if ("isFile" in x && "name" in x) {
    const e = x as {
      name: unknown;
      parentPath: unknown;
      isFile(): boolean;
      isDirectory(): boolean;
      isSymbolicLink(): boolean;
    };
    return [
      plain(e.name, strip),
      plain(Buffer.from(e.parentPath as string).toString(), strip),
      e.isFile(),
      e.isDirectory(),
      e.isSymbolicLink(),
    ];
  }
  return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, plain(v, strip)]));
}

interface Call {
  readonly op: string;
  readonly numbers: readonly number[];
}

async function answer(s: Side, c: Call, d: Draw): Promise<unknown> {
  const strip = (text: string): string =>
    text.replaceAll(s.root, "").replaceAll(Buffer.from(s.root).toString("hex"), "").replaceAll(encodeURI(s.root), "");
  try {
    return { value: plain(await OPS[c.op]!(s, d), strip) };
  } catch (err) {
    const e = err as NodeJS.ErrnoException & { dest?: string };
    const { name, code, errno, syscall } = e;
    // node's texts about arguments describe the value at length, and which of two it finds first is its own affair.
    if (/^ERR_(INVALID_ARG_(TYPE|VALUE)|OUT_OF_RANGE|UNKNOWN_ENCODING)$/.test(code ?? "")) return "refuses an argument";
    // Their names are at random, or the texts those of one version.
    const message = ["mkdtemp", "cp"].includes(c.op) ? "" : plain(e.message, strip);
    const path = c.op === "mkdtemp" ? "" : plain(e.path, strip);
    return { name, code, errno, syscall, path, dest: plain(e.dest, strip), message };
  }
}

async function treeOf({ fs, root }: Side, dir = root): Promise<unknown[]> {
  const out: unknown[] = [];
  for (const e of (await fs.readdir(dir, { withFileTypes: true })).sort((x, y) => (x.name < y.name ? -1 : 1))) {
    const p = `${dir}/${e.name}`;
    const s = await fs.lstat(p);
    const line = `${e.name} ${s.mode.toString(8)} ${s.uid} ${s.gid} ${s.isDirectory() ? "" : s.nlink} ${setTime(s.mtimeMs)}`;
    if (e.isDirectory()) out.push(line, await treeOf({ fs, root, handles: new Map() }, p));
    else if (e.isSymbolicLink()) out.push(line, (await fs.readlink(p)).replace(root, ""));
    else out.push(line, (await fs.readFile(p)).toString("latin1").slice(0, 200), s.size);
  }
  return out;
}

const calls = fc.array(
  fc.record({
    op: fc.constantFrom(...Object.keys(OPS)),
    numbers: fc.array(fc.nat(2519), { minLength: 12, maxLength: 12 }),
  }),
  { minLength: 20, maxLength: 80 },
);

describe.skipIf(lacksTools)("random arguments", () => {
  test("are taken and refused on a volume as in a folder", async () => {
    const folder = tempDir("ocfs2-differential");
    await onVolume(newImage(["-b", "1K", "-C", "4K"]), async (v) => {
      let runs = 0;
      const parameters = {
        seed: Number(process.env["OCFS2_SEED"] ?? 1),
        numRuns: Number(process.env["OCFS2_RUNS"] ?? 50),
      };
      await fc.assert(
        fc.asyncProperty(calls, async (list) => {
          const below = `/run-${runs++}`;
          const theirs: Side = { fs: node_promises as unknown as FsPromises, root: folder + below, handles: new Map() };
          const ours: Side = { fs: v.promises, root: below, handles: new Map() };
          try {
            for (const { fs, root } of [theirs, ours]) {
              await fs.mkdir(`${root}/d/d`, { recursive: true });
              await fs.writeFile(`${root}/a`, "a file\nof some\nlines");
              await fs.symlink("d/d", `${root}/l`);
            }
            for (const c of list) {
              const [d, e] = [new Draw(c.numbers), new Draw(c.numbers)];
              const want = await answer(theirs, c, d);
              expect(await answer(ours, c, e), `${c.op} ${d.shown.join(" ")}`).toEqual(want);
            }
            expect(await treeOf(ours)).toEqual(await treeOf(theirs));
          } finally {
            for (const { handles } of [theirs, ours]) for (const h of handles.values()) void h.close().catch(() => {});
          }
        }),
        parameters,
      );
    });
  });
});
