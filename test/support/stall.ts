/** A way to a node's disk that can be stalled and let go (stall_disk.c): nothing else of the machine is held up by it. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildC } from "./build_c.ts";
import { atExit, forceUnmount, tempDir } from "./cleanup.ts";
import { isMounted } from "./mount.ts";

export interface LetGo {
  /** Requests that were held, and how many of them were writes. */
  readonly held: number;
  readonly writes: number;
  /** When the last of these writes came, after the stall. */
  readonly last_write_ms: number;
}

export class StallDisk {
  /** The file to mount. */
  readonly path: string;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #wake: () => void = () => {};
  readonly #forget: () => void;
  #ended = false;

  private constructor(image: string) {
    this.path = join(tempDir("ocfs2-stall"), "disk");
    writeFileSync(this.path, "");
    this.#child = spawn("setpriv", ["--pdeathsig", "KILL", buildC("stall_disk.c"), image, this.path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdin!.on("error", () => {});
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    this.#child.once("exit", () => {
      this.#ended = true;
      this.#wake();
    });
    this.#forget = atExit(() => {
      this.#child.kill("SIGKILL");
      if (isMounted(this.path)) forceUnmount(this.path);
    });
  }

  static async open(image: string): Promise<StallDisk> {
    const disk = new StallDisk(image);
    await disk.#answer();
    return disk;
  }

  async #answer(): Promise<string> {
    while (this.#lines.length === 0) {
      if (this.#ended) throw new Error("stall_disk has ended");
      await new Promise<void>((ok) => {
        this.#wake = ok;
      });
    }
    return this.#lines.shift()!;
  }

  #ask(command: string): Promise<string> {
    this.#child.stdin!.write(`${command}\n`);
    return this.#answer();
  }

  /** From now on no request is done or answered. */
  async stall(): Promise<void> {
    await this.#ask("stall");
  }

  /** What is held fails, as when a driver's time is up; later requests fail, too. */
  async fail(): Promise<LetGo> {
    const [, held, writes, last_write_ms] = (await this.#ask("fail")).split(" ").map(Number);
    return { held: held!, writes: writes!, last_write_ms: last_write_ms! };
  }

  /** Writes outside of these bytes of the disk fail from now on; all else is done. */
  async refuseWritesBut(from: number, to: number): Promise<void> {
    await this.#ask(`refuse ${from} ${to}`);
  }

  /** Writes that were sent after `fail`. */
  async late(): Promise<number> {
    return Number((await this.#ask("late")).split(" ")[1]);
  }

  /** When the last write came, whatever became of it: ms of CLOCK_BOOTTIME. */
  async lastWrite(): Promise<number> {
    return Number((await this.#ask("last")).split(" ")[1]);
  }

  /** What is held is done after all. */
  async go(): Promise<void> {
    await this.#ask("go");
  }

  close(): void {
    this.#forget();
  }
}
