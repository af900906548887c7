/** The command line: one sub-command a tool, named after the classic ones. Entry point of dist/cli.js. */
import { Command, CommanderError } from "commander";
import { clusterCommand } from "./cluster_command.ts";
import { command as debugfsCommand } from "./debugfs.ts";
import { installHelperCommand } from "./install_helper.ts";
import { command as mkfsCommand } from "./mkfs.ts";
import { mountCommand, mountDaemonCommand } from "./mount_command.ts";
import { nodeCommand, nodeDaemonCommand } from "./node_command.ts";
import { umountCommand } from "./umount_command.ts";

const program = new Command("ocfs2")
  .description("a node of the OCFS2 shared-disk cluster file system in user space")
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "ocfs2: ")) })
  .showHelpAfterError(false);

program.addCommand(mkfsCommand);
program.addCommand(mountCommand);
program.addCommand(umountCommand);
program.addCommand(debugfsCommand);
program.addCommand(clusterCommand);
program.addCommand(nodeCommand);
program.addCommand(installHelperCommand);
program.addCommand(mountDaemonCommand, { hidden: true });
program.addCommand(nodeDaemonCommand, { hidden: true });

try {
  await program.parseAsync();
} catch (err) {
  if (err instanceof CommanderError) process.exitCode = err.exitCode;
  else throw err;
}
