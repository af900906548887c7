/**
 * kill -9 of the node process while programs work on its mount: sqlite3 commits transactions, and appends are fsynced one
 * by one. What was acknowledged before the kill must be there afterwards: each row whose COMMIT returned, each appended record whose
 * fsync returned; the database is whole, and fsck.ocfs2 finds nothing once the volume was mounted and unmounted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { atExit, tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsckAsync } from "../support/judges.ts";
import { Mount, type MountOptions } from "../support/mount.ts";
import { missing, sh, trySh } from "../support/sh.ts";

export interface Kill9Options {
  readonly times: number;
  readonly seed: number;
  readonly mkfs?: readonly string[];
  readonly mountOptions?: string;
  /** A planted fault: after each kill the disk is as it was before the round, as if nothing of it had been written. */
  readonly forgets?: boolean;
  readonly onRound?: (round: number, acknowledged: number) => void;
}

export interface Kill9Result {
  readonly rounds: number;
  readonly rows: number;
  readonly records: number;
  readonly names: number;
  readonly problems: string[];
}

export const kill9Unavailable = (): string | undefined =>
  missing("sqlite3").length > 0 ? "sqlite3 is not installed (Debian: apt-get install sqlite3)" : undefined;

const APPENDER = `
const fs = require("node:fs");
const [file, from] = [process.argv[1], Number(process.argv[2])];
const fd = fs.openSync(file, "a");
for (let i = from; ; i++) {
  const pad = "x".repeat(20 + (i * 7919) % 3000);
  fs.writeSync(fd, i + " " + pad + " " + i + "\\n");
  fs.fsyncSync(fd);
  fs.writeSync(1, i + "\\n");
}`;

/** Makes a name, syncs its folder, says so, takes away the name before it, and so on: names i and no other are there. */
const NAMER = `
const fs = require("node:fs");
const [dir, from] = [process.argv[1], Number(process.argv[2])];
const fd = fs.openSync(dir, "r");
for (let i = from; ; i++) {
  fs.closeSync(fs.openSync(dir + "/" + i, "wx"));
  if (i > from) fs.renameSync(dir + "/" + (i - 1), dir + "/kept-" + (i - 1));
  fs.fsyncSync(fd);
  fs.writeSync(1, i + "\\n");
}`;

/** Programs at work on the mount, and what they have been told is safe. */
class Worker {
  readonly child: ChildProcess;
  acknowledged = 0;
  /** It was told for the first time that something is safe, or has ended. */
  readonly begun: Promise<void>;
  readonly #undo: () => void;

  constructor(argv: readonly string[], stdin: string | undefined, last: (text: string) => number | undefined) {
    const [program = "", ...args] = argv;
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "ignore"] });
    this.child.stdin!.on("error", () => {});
    if (stdin !== undefined) this.child.stdin!.write(stdin);
    let rest = "";
    this.begun = new Promise((ok) => {
      this.child.once("close", ok);
      this.child.stdout!.setEncoding("utf8").on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) this.acknowledged = Math.max(this.acknowledged, last(line) ?? 0);
        if (this.acknowledged > 0) ok();
      });
    });
    this.#undo = atExit(() => this.child.kill("SIGKILL"));
  }

  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((ok) => this.child.once("close", ok));
      this.child.kill("SIGKILL");
      await gone;
    }
    this.#undo();
  }
}

const numberOf = (line: string): number | undefined => (/^\d+$/.test(line) ? Number(line) : undefined);

/**
 * Rows in transactions of their own, each said when it is committed. TRUNCATE and not DELETE: sqlite3 takes a folder that it cannot
 * open for syncing for no error, and says "committed" of a row that was not when the kill falls right there.
 */
function sqliteScript(from: number, count: number, mode: string): string {
  // Without bail it would say the number of a row that it failed to insert.
  let sql = `.bail on\nPRAGMA journal_mode=${mode};\nPRAGMA synchronous=EXTRA;\nCREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT);\n`;
  for (let i = from; i < from + count; i++)
    sql += `INSERT INTO t VALUES (${i}, printf('%.*c', ${100 + ((i * 37) % 2000)}, 'v'));\nSELECT ${i};\n`;
  return sql;
}

const pause = (ms: number): Promise<void> => new Promise((ok) => setTimeout(ok, ms));

export async function kill9Run(options: Kill9Options): Promise<Kill9Result> {
  const dir = tempDir("ocfs2-kill9");
  const image = join(dir, "image");
  mkfs(image, 512, options.mkfs ?? []);
  const known = (await fsckAsync(image)).findings;
  const mountOptions: MountOptions = options.mountOptions === undefined ? {} : { options: options.mountOptions };
  const problems: string[] = [];
  let rows = 0;
  let records = 0;
  const named: number[] = [];
  let random = options.seed;
  const below = (n: number): number => {
    random = (random * 1103515245 + 12345) % 2147483648;
    return Math.floor((random / 2147483648) * n);
  };
  const before = join(dir, "before");
  for (let round = 0; round < options.times; round++) {
    if (options.forgets === true) sh(["cp", "--sparse=always", image, before]);
    const mount = await Mount.start(image, mountOptions);
    const at = mount.dir;
    const database = join(at, "db");
    const log = join(at, "log");
    problems.push(...check(at, rows, records, named).map((p) => `round ${round}: ${p}`));
    // What an interrupted sqlite3 had committed without telling, and a record that was written without an answer.
    rows = Math.max(rows, maxRow(database));
    records = Math.max(records, lastRecord(log));
    dropTorn(log);
    const mode = round % 2 === 0 ? "TRUNCATE" : "WAL";
    const sqlite = new Worker(["sqlite3", database], sqliteScript(rows + 1, 5000, mode), numberOf);
    const appender = new Worker([process.execPath, "-e", APPENDER, log, String(records + 1)], undefined, numberOf);
    const names = join(at, `names-${round}`);
    mkdirSync(names);
    const namer = new Worker([process.execPath, "-e", NAMER, names, "1"], undefined, numberOf);
    await Promise.all([sqlite.begun, appender.begun, namer.begun]);
    await pause(below(1800));
    await mount.kill9();
    if (options.forgets === true) renameSync(before, image);
    // What they were told until now counts; the mount is gone, so they can be told nothing more.
    await Promise.all([sqlite.end(), appender.end(), namer.end()]);
    if (appender.acknowledged === 0) problems.push(`round ${round}: nothing was appended`);
    rows = Math.max(rows, sqlite.acknowledged);
    named.push(namer.acknowledged);
    records = Math.max(records, appender.acknowledged);
    options.onRound?.(round + 1, rows + records);
  }
  const mount = await Mount.start(image, mountOptions);
  problems.push(...check(mount.dir, rows, records, named).map((p) => `at the end: ${p}`));
  await mount.unmount();
  problems.push(...(await fsckAsync(image, known)).findings.map((line) => `fsck: ${line}`));
  return { rounds: options.times, rows, records, names: named.reduce((a, b) => a + b, 0), problems };
}

const maxRow = (database: string): number =>
  existsSync(database) ? Number(trySh(["sqlite3", database, "SELECT max(id) FROM t"]).stdout.trim() || 0) : 0;

function lastRecord(log: string): number {
  if (!existsSync(log)) return 0;
  const lines = readFileSync(log, "utf8").split("\n").slice(0, -1);
  return lines.length === 0 ? 0 : Number(lines.at(-1)!.split(" ")[0]);
}

/** Of a record that was never acknowledged a part may be there. */
function dropTorn(log: string): void {
  if (!existsSync(log)) return;
  const bytes = readFileSync(log);
  truncateSync(log, bytes.lastIndexOf(10) + 1);
}

function check(at: string, rows: number, records: number, named: readonly number[]): string[] {
  const database = join(at, "db");
  const log = join(at, "log");
  const problems: string[] = [];
  for (const [round, acknowledged] of named.entries()) {
    const folder = join(at, `names-${round}`);
    // Nobody has synced the folder's own name before the first name in it.
    const there = new Set(existsSync(folder) ? readdirSync(folder) : []);
    for (let i = 1; i < acknowledged; i++)
      if (!there.has(`kept-${i}`) || there.has(String(i))) {
        problems.push(`names-${round}: the rename of ${i} is undone, though ${acknowledged} was acknowledged`);
        break;
      }
    if (acknowledged > 0 && !there.has(String(acknowledged)) && !there.has(`kept-${acknowledged}`))
      problems.push(`names-${round}: ${acknowledged} was acknowledged, and is not there`);
  }
  if (rows > 0) {
    const ok = trySh(["sqlite3", database, "PRAGMA integrity_check; SELECT count(*), max(id) FROM t;"]);
    const [integrity = "", counts = ""] = ok.stdout.trim().split("\n");
    if (integrity !== "ok") problems.push(`sqlite3: ${ok.stdout.slice(0, 300)} ${ok.stderr.slice(0, 300)}`);
    const [count = 0, max = 0] = counts.split("|").map(Number);
    if (max < rows) problems.push(`sqlite3: row ${rows} was committed, but ${max} is the last`);
    if (count !== max) problems.push(`sqlite3: ${count} rows up to ${max}`);
  }
  if (records > 0) {
    const text = existsSync(log) ? readFileSync(log, "utf8") : "";
    const lines = text.split("\n");
    for (let i = 1; i <= records; i++) {
      const pad = "x".repeat(20 + ((i * 7919) % 3000));
      if (lines[i - 1] !== `${i} ${pad} ${i}`) {
        problems.push(`record ${i} of ${records} that were fsynced is ${JSON.stringify(lines[i - 1]?.slice(0, 60))}`);
        break;
      }
    }
  }
  return problems;
}
