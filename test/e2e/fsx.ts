/**
 * fsx on our mount: random reads and writes through the page cache, shared mappings and O_DIRECT, with truncates, holes, zeroed ranges,
 * allocations and copy_file_range, against a model in memory (test/support/fsx_mmap.c). After the unmount fsck.ocfs2 finds nothing,
 * and a second mount reads the same file.
 */
import { join } from "node:path";
import { buildC } from "../support/build_c.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs, type OptionSet } from "../support/images.ts";
import { fsck, KEPT_SPACE } from "../support/judges.ts";
import { withMount } from "../support/mount.ts";
import { runAsync, sh } from "../support/sh.ts";

export { OPTION_SETS } from "../support/images.ts";

export interface FsxOptions {
  readonly set: OptionSet;
  readonly seed: number;
  readonly ops: number;
  /** Processes at once, each with its own file and seed. */
  readonly jobs?: number;
  readonly max_bytes?: number;
  readonly mountOptions?: string;
  readonly env?: Record<string, string>;
  /** More arguments of fsx_mmap. */
  readonly args?: readonly string[];
  readonly onOps?: (done: number) => void;
  /** A process that does not get a thousand operations further in this time hangs. */
  readonly stall_ms?: number;
}

export interface FsxResult {
  readonly ops: number;
  readonly failures: string[];
}

/**
 * Notices that a job stands still. One that hangs in the mount cannot be killed before the mount is, so it is not waited for:
 * `stalled` fails, and the mount is taken down.
 */
class StallWatch {
  readonly stalled: Promise<never>;
  readonly #moved = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(stall_ms: number) {
    let fail: (err: Error) => void = () => {};
    this.stalled = new Promise((_, no) => {
      fail = no;
    });
    this.stalled.catch(() => {});
    this.#timer = setInterval(() => {
      for (const [job, at] of this.#moved)
        if (performance.now() - at > stall_ms) fail(new Error(`file${job} stands still for ${stall_ms / 1000} s`));
    }, 1000);
  }

  moved(job: number): void {
    this.#moved.set(job, performance.now());
  }

  async over<T>(job: number, work: Promise<T>): Promise<T> {
    this.moved(job);
    return work.finally(() => this.#moved.delete(job));
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

export async function fsxRun(options: FsxOptions): Promise<FsxResult> {
  const { set, seed, ops } = options;
  const dir = tempDir("ocfs2-fsx");
  const image = join(dir, "image");
  const program = buildC("fsx_mmap.c");
  mkfs(image, 600, set.args);
  const known = fsck(image).findings;
  const o = [options.mountOptions, set.mountOptions].filter((x) => x !== undefined).join(",");
  const mount = { ...(o === "" ? {} : { options: o }), ...(options.env === undefined ? {} : { env: options.env }) };
  const failures: string[] = [];
  const jobs = options.jobs ?? 1;
  const each = Math.ceil(ops / jobs);
  const sums = await withMount(
    image,
    async (at) => {
      const done = new Array<number>(jobs).fill(0);
      const watch = new StallWatch(options.stall_ms ?? 180_000);
      const one = async (job: number): Promise<void> => {
        const argv = [
          program,
          "-s",
          String(seed * 1000 + job),
          "-n",
          String(each),
          "-l",
          String(options.max_bytes ?? 400_000),
        ];
        const ran = await runAsync([...argv, ...(options.args ?? []), join(at, `file${job}`)], {
          onLine: (line) => {
            if (!/^\d+$/.test(line)) return;
            watch.moved(job);
            done[job] = Number(line);
            options.onOps?.(done.reduce((a, b) => a + b, 0));
          },
        });
        if (ran.status !== 0)
          failures.push(
            `${set.name}, seed ${seed * 1000 + job}: status ${ran.status}\n${ran.stderr.split("\n").slice(-40).join("\n")}`,
          );
      };
      const all = Promise.all(Array.from({ length: jobs }, (_, job) => watch.over(job, one(job))));
      await Promise.race([all, watch.stalled]).finally(() => watch.stop());
      return sh(["sh", "-c", 'cd "$1" && md5sum file*', "sh", at]);
    },
    mount,
  ).catch((err: unknown) => {
    failures.push(`${set.name}, seed ${seed}: ${err instanceof Error ? err.message : String(err)}`);
    return undefined;
  });
  if (sums !== undefined) {
    const findings = fsck(image, known).findings.filter((line) => !KEPT_SPACE.test(line));
    failures.push(...findings.map((line) => `${set.name}, seed ${seed}: fsck: ${line}`));
    const again = await withMount(image, async (at) => sh(["sh", "-c", 'cd "$1" && md5sum file*', "sh", at]), mount);
    if (again !== sums)
      failures.push(`${set.name}, seed ${seed}: a second mount reads something else:\n${sums}${again}`);
  }
  return { ops: each * jobs, failures };
}
