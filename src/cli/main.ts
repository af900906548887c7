/**
 * The command line: one sub-command a tool, named after the classic ones. Each tool is a bundle of its own with this in it, which
 * bin/start.js finds by name: mkfs of a small volume takes less time than reading the code of all of them.
 */
import { Command, CommanderError } from "commander";
import pkg from "../../package.json" with { type: "json" };
import { problemOf } from "../tools/problem.ts";

/** For `ocfs2 --help`. Commands that it does not name are not for users. */
const DESCRIPTIONS: Readonly<Record<string, string>> = {
  mkfs: "make an OCFS2 file system on a block device or in a file",
  mount: "mount an OCFS2 volume through FUSE",
  umount: "unmount; all is on the disk when it returns",
  debugfs: "look at a volume, mounted or not, whatever its state; it only reads",
  mounted: "say which devices hold OCFS2 volumes, and which nodes have them mounted",
  info: "print what a volume is: label, UUID, sizes, features",
  cluster: "the cluster's configuration and state, as o2cb(8)",
  node: "the node's processes on this machine",
  "install-helper": "make `mount -t fuse.ocfs2`, /etc/fstab and `umount` work",
  bench: "run a benchmark; without a name, list them",
};

const UNSETTLED = 13;

/** What is wrong with the words, in one line that names the command, as all that goes wrong. */
function sayWhose(command: Command, name: string): void {
  const outputError = (text: string, write: (line: string) => void): void => {
    const what = text
      .replace(/^error: /, "")
      .trim()
      .replaceAll("\n", " ");
    write(`${name}: ${what}: see "${name} --help"\n`);
  };
  command.configureOutput({ outputError }).showHelpAfterError(false);
  for (const sub of command.commands) sayWhose(sub, `${name} ${sub.name()}`);
}

function programOf(commands: readonly Command[]): Command {
  const program = new Command("ocfs2")
    .description("a node of the OCFS2 shared-disk cluster file system in user space")
    .version(`ocfs2 ${pkg.version}`, "-V, --version", "print the version")
    .enablePositionalOptions();
  for (const [name, description] of Object.entries(DESCRIPTIONS))
    program.addCommand(commands.find((c) => c.name() === name) ?? new Command(name).description(description));
  for (const command of commands) if (!(command.name() in DESCRIPTIONS)) program.addCommand(command, { hidden: true });
  sayWhose(program, "ocfs2");
  return program;
}

/** Hears the errors of a stream from its first use on. Node makes it then, which takes milliseconds: a quiet command needs none. */
function onStreamError(name: "stdout" | "stderr", heard: (err: NodeJS.ErrnoException) => void): void {
  const made = Object.getOwnPropertyDescriptor(process, name)!;
  Object.defineProperty(process, name, {
    ...made,
    get() {
      Object.defineProperty(process, name, made);
      return process[name].on("error", heard);
    },
  });
}

/** The program with those of its commands that the words name. */
export async function main(commands: readonly Command[]): Promise<void> {
  // Of `ocfs2 … | head`: the end of who reads is ours, as SIGPIPE's is. What serves a mount does not end for want of a reader of its messages.
  onStreamError("stdout", (err) => {
    if (err.code === "EPIPE") process.exit(141);
    process.stderr.write(`ocfs2: ${problemOf(err, "standard output")}\n`);
    process.exit(1);
  });
  onStreamError("stderr", () => {});

  const program = programOf(commands);
  const [first, second] = process.argv.slice(2);
  // Commander answers "help" for a command that there is none of with the help of all, and no word on why.
  const known = ["help", ...program.commands.map((c) => c.name())];
  if (first === "help" && second !== undefined && !second.startsWith("-") && !known.includes(second))
    program.error(`unknown command '${second}'`);
  // What waits for nothing that can still come has not done what it was asked for. A module that does ends with this code.
  process.exitCode = UNSETTLED;
  try {
    await program.parseAsync();
    if (process.exitCode === UNSETTLED) process.exitCode = 0;
  } catch (err) {
    if (err instanceof CommanderError) process.exitCode = err.exitCode;
    else throw err;
  }
}
