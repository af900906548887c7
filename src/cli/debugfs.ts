/**
 * `ocfs2 debugfs`: debugfs.ocfs2(8)'s options. It only reads. Where the classic tool ends with 0 whatever happened, this
 * ends with 1 when the device could not be opened or the command of -R failed.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Command, InvalidArgumentError } from "commander";
import { lockName } from "../dlmglue/lock_res.ts";
import { DebugfsError, newSession, openVolume, runLine, type Session, writeAll } from "../tools/debugfs/index.ts";
import { CliError, report } from "./errors.ts";
import { liveNode } from "./live_node.ts";

interface DebugfsOptions {
  readonly request?: string;
  readonly file?: string;
  readonly superblock?: number;
  readonly noprompt?: boolean;
  readonly decode?: boolean;
  readonly encode?: boolean;
  readonly image?: boolean;
  readonly write?: boolean;
  readonly json?: boolean;
  readonly node?: string;
}

const STDOUT = 1;
const PROMPT = "debugfs: ";
const LOCK_NAME = /^(?<type>[A-Z])0{6}(?<block>[0-9a-f]{16})(?<generation>[0-9a-f]{8})$/;
/** A dentry lock's, as it is written for people: the parent, and the lower half of the inode's number. */
const DENTRY_NAME = /^(?<type>N)(?<parent>[0-9a-f]{16})(?<block>[0-9a-f]{8})$/;
const LOCK_TYPES: Readonly<Record<string, string>> = {
  M: "Meta",
  D: "Data",
  S: "Super",
  R: "Rename",
  W: "Write/Read",
  N: "Dentry",
  O: "Open",
  F: "Flock",
  Q: "QInfo",
  Y: "NFSSync",
  P: "OrphanScan",
  T: "Refcount",
  I: "TrimFs",
};

/** Lines are gathered, since a dump has many; `flush` before anything else writes to the same descriptor. */
function output(): { out: (line: string) => void; flush: () => void } {
  let text = "";
  const flush = (): void => {
    const bytes = Buffer.from(text);
    text = "";
    writeAll(STDOUT, bytes, "standard output");
  };
  return {
    out(line) {
      text += `${line}\n`;
      if (text.length > 1 << 16) flush();
    },
    flush,
  };
}

/** Runs a line and says on standard error what went wrong. */
async function run(
  s: Session,
  line: string,
  o: DebugfsOptions,
  flush: () => void,
): Promise<{ go_on: boolean; ok: boolean }> {
  try {
    if (/^\s*cat\s/.test(line)) flush();
    const go_on = await runLine(s, line, o.json === true);
    flush();
    return { go_on, ok: true };
  } catch (err) {
    flush();
    if (!(err instanceof DebugfsError)) throw err;
    process.stderr.write(`${err.message}\n`);
    return { go_on: true, ok: false };
  }
}

async function interactive(s: Session, o: DebugfsOptions, flush: () => void): Promise<void> {
  const prompt = o.noprompt !== true && process.stdin.isTTY === true;
  const rl = createInterface({ input: process.stdin, ...(prompt ? { output: process.stdout, prompt: PROMPT } : {}) });
  if (prompt) rl.prompt();
  for await (const line of rl) {
    if (!(await run(s, line, o, flush)).go_on) break;
    if (prompt) rl.prompt();
  }
  rl.close();
}

function decode(names: readonly string[]): void {
  for (const name of names) {
    const of = (DENTRY_NAME.exec(name) ?? LOCK_NAME.exec(name))?.groups ?? {};
    const type = LOCK_TYPES[of["type"] ?? ""];
    if (type === undefined) continue;
    const [block, generation, parent] = ["block", "generation", "parent"].map((part) =>
      Number.parseInt(of[part] ?? "0", 16),
    ) as [number, number, number];
    const lines = [`Lockres:    ${name}`, `Type:       ${type}`];
    if (block !== 0) lines.push(`Block:      ${block}`);
    if (generation !== 0) lines.push(`Generation: 0x${generation.toString(16).padStart(8, "0")}`);
    if (parent !== 0) lines.push(`Parent:\t    ${parent}`);
    process.stdout.write(`${lines.join("\n")}\n\n`);
  }
}

function encode([type = "", blkno = "", generation = ""]: readonly string[]): void {
  if (!(type in LOCK_TYPES) || blkno === "" || generation === "")
    throw new CliError(
      1,
      "--encode takes a lock's type (M, W, O, ...), a block number and a generation; of a dentry (N) the parent instead",
    );
  const hex = (n: string, digits: number): string => Number(n).toString(16).padStart(digits, "0");
  const name =
    type === "N" ? `N${hex(generation, 16)}${hex(blkno, 8)}` : lockName(type, Number(blkno), Number(generation));
  process.stdout.write(`${name}\n`);
}

async function debugfs(args: readonly string[], o: DebugfsOptions): Promise<number> {
  if (o.decode === true) {
    decode(args);
    return 0;
  }
  if (o.encode === true) {
    encode(args);
    return 0;
  }
  if (o.write === true)
    throw new CliError(1, "-w: this debugfs only reads; fsck.ocfs2, tunefs.ocfs2 and debugfs.ocfs2 -w change volumes");
  if (o.image === true) throw new CliError(1, "-i: packed images of o2image are not read");
  if (args.length > 1) throw new CliError(1, "one device at a time");
  const { out, flush } = output();
  const s = newSession(out, STDOUT, { flush, live: liveNode(o.node) });
  if (args[0] !== undefined) openVolume(s, args[0], o.superblock ?? 0);
  try {
    if (o.request !== undefined) return (await run(s, o.request, o, flush)).ok ? 0 : 1;
    if (o.file === undefined) {
      await interactive(s, o, flush);
      return 0;
    }
    for (const line of readFileSync(o.file, "utf8").split("\n")) {
      if (line.trim() === "") continue;
      if (o.noprompt !== true) out(`${PROMPT}${line}`);
      if (!(await run(s, line, o, flush)).go_on) break;
    }
    return 0;
  } finally {
    s.close();
  }
}

function backupNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("a backup is numbered from 1 on");
  return Number(text);
}

export const command = new Command("debugfs")
  .description("look at a volume, mounted or not, whatever its state; it only reads")
  .argument("[device...]", "block device or file; with -d and -e what is to be translated")
  .option("-R, --request <command>", "run one command")
  .option("-f, --file <file>", "run the commands in a file")
  .option("-s, --superblock <number>", "use a backup of the super block", backupNumber)
  .option("-n, --noprompt", "show no prompt")
  .option("-d, --decode", "say what a lock's name means")
  .option("-e, --encode", "make a lock's name from its type, block number and generation")
  .option("-i, --image", "not supported: packed images")
  .option("-w, --write", "not supported: writing")
  .option(
    "--node <name>",
    "which node of this machine fs_locks, dlm_locks and net_stats ask, if several have the volume",
  )
  .option("--json", "print structures as JSON, where a command has that")
  .addHelpText("after", '\nThe command "help" lists the commands: ocfs2 debugfs -R help')
  .action(async (args: string[], o: DebugfsOptions) => {
    process.exitCode = await debugfs(args, o).catch((err: unknown) =>
      // Who reads a pipe has seen enough.
      (err as NodeJS.ErrnoException).code === "EPIPE" ? 0 : report("debugfs", err),
    );
  });
