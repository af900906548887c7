/**
 * The command line: one sub-command a tool, named after the classic ones. Entry point of dist/cli.js. Each tool is a bundle of its
 * own, loaded when it is called for: mkfs of a small volume takes less time than reading the code of all of them.
 */
import { Command, CommanderError } from "commander";
import pkg from "../../package.json" with { type: "json" };
import { problemOf } from "../tools/problem.ts";

/** Name, description, and where it is: a bundle in dist/ and its export. Those without a description are not for users. */
const COMMANDS: readonly [name: string, description: string, bundle: string, exported: string][] = [
  ["mkfs", "make an OCFS2 file system on a block device or in a file", "cli_mkfs.js", "command"],
  ["mount", "mount an OCFS2 volume through FUSE", "cli_mount.js", "mountCommand"],
  ["umount", "unmount; all is on the disk when it returns", "cli_umount.js", "umountCommand"],
  ["debugfs", "look at a volume, mounted or not, whatever its state; it only reads", "cli_debugfs.js", "command"],
  ["mounted", "say which devices hold OCFS2 volumes, and which nodes have them mounted", "cli_mounted.js", "command"],
  ["info", "print what a volume is: label, UUID, sizes, features", "cli_info.js", "command"],
  ["cluster", "the cluster's configuration and state, as o2cb(8)", "cli_cluster.js", "clusterCommand"],
  ["node", "the node's processes on this machine", "cli_node.js", "nodeCommand"],
  [
    "install-helper",
    "make `mount -t fuse.ocfs2`, /etc/fstab and `umount` work",
    "cli_install_helper.js",
    "installHelperCommand",
  ],
  ["bench", "run a benchmark; without a name, list them", "cli_bench.js", "command"],
  ["mount-daemon", "", "cli_mount.js", "mountDaemonCommand"],
  ["node-daemon", "", "cli_node.js", "nodeDaemonCommand"],
];

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

const program = new Command("ocfs2")
  .description("a node of the OCFS2 shared-disk cluster file system in user space")
  .version(`ocfs2 ${pkg.version}`, "-V, --version", "print the version")
  .enablePositionalOptions();

async function load(bundle: string, exported: string): Promise<Command> {
  const module = (await import(new URL(`./${bundle}`, import.meta.url).href)) as Record<string, Command>;
  return module[exported]!;
}

const [first, second] = process.argv.slice(2);
const wanted = first === "help" ? second : first;
for (const [name, description, bundle, exported] of COMMANDS) {
  if (name === wanted) program.addCommand(await load(bundle, exported), { hidden: description === "" });
  else if (description !== "") program.addCommand(new Command(name).description(description));
}

// Of `ocfs2 … | head`: the end of who reads is ours, as SIGPIPE's is. What serves a mount does not end for want of a reader of its messages.
process.stdout.on("error", (err: NodeJS.ErrnoException) => {
  if (err.code === "EPIPE") process.exit(141);
  process.stderr.write(`ocfs2: ${problemOf(err, "standard output")}\n`);
  process.exit(1);
});
process.stderr.on("error", () => {});

sayWhose(program, "ocfs2");
// Commander answers "help" for a command that there is none of with the help of all, and no word on why.
const known = ["help", ...COMMANDS.map(([name]) => name)];
if (first === "help" && second !== undefined && !second.startsWith("-") && !known.includes(second))
  program.error(`unknown command '${second}'`);
try {
  await program.parseAsync();
} catch (err) {
  if (err instanceof CommanderError) process.exitCode = err.exitCode;
  else throw err;
}
