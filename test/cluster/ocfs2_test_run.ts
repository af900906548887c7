/**
 * ocfs2-test: the programs with which OCFS2's makers test several nodes against each other, on nodes of ours. Its sources are not in this
 * repository: OCFS2TEST_DIR names a checkout. They are compiled in a temporary folder, and run by MPI with a process for each node; all processes are on this machine, each in
 * a mount namespace of its own in which its node's volume has the same path.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../support/cleanup.ts";
import { ClusterRig, clusterUnavailable } from "../support/cluster_rig.ts";
import { fsckAsync, fsckUnavailable } from "../support/judges.ts";
import { missing, run, runAsync, sh, toolEnv } from "../support/sh.ts";
import { clusterImage } from "./image.ts";
import { OurMember } from "./members.ts";

/** The volume, for every program. */
const AT = "/mnt/volume";
const NAMED = "multi_reflink_test";

interface Program {
  readonly sources: readonly string[];
  readonly libs?: readonly string[];
  /** In the suite a wrong variable is looked at, and each run ends at its start. */
  readonly mend?: readonly [file: string, wrong: string, right: string];
}

const OCFS2 = ["-laio", "-locfs2", "-lcom_err"];

/** Below programs/. */
const PROGRAMS: Readonly<Record<string, Program>> = {
  flock_unit_test: { sources: ["flock_tests/flock_unit_test.c"] },
  multi_mmap: { sources: ["multi_node_mmap/multi_mmap.c"] },
  write_append_truncate: { sources: ["write_append_truncate/write_append_truncate.c"] },
  create_racer: { sources: ["create_racer/create_racer.c"] },
  open_delete: { sources: ["open_delete/open_delete.c"] },
  "xattr-multi-test": { sources: ["xattr_tests/xattr-multi-test.c", "xattr_tests/xattr-test-utils.c"] },
  multi_index_dir: { sources: ["dx_dirs_tests/multi_index_dir.c"], libs: OCFS2 },
  multi_directio_test: {
    sources: ["directio_test/multi_directio_test.c", "directio_test/directio_utils.c"],
    mend: [
      "directio_test/multi_directio_test.c",
      "ret = verify_file(1, NULL, remote_wus, workfile, file_size);\n\t\tshould_exit(fd);",
      "ret = verify_file(1, NULL, remote_wus, workfile, file_size);\n\t\tshould_exit(ret);",
    ],
  },
  [NAMED]: {
    sources: [
      "reflink_tests/multi_reflink_test.c",
      "reflink_tests/reflink_test_utils.c",
      "reflink_tests/xattr_test_utils.c",
      "libocfs2test/aio.c",
    ],
    libs: OCFS2,
  },
};

/** Stands for OCFS2_IOC_REFLINK, which holds pointers and cannot pass FUSE (docs/FUSE.md). */
const REFLINK_C = `#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
int reflink(const char *from, const char *to, unsigned long preserve)
{
	struct stat st;
	int ret = -1, in = open(from, O_RDONLY), out = -1;
	if (in < 0)
		return -1;
	if (fstat(in, &st) == 0)
		out = open(to, O_WRONLY | O_CREAT | O_EXCL, st.st_mode & 07777);
	if (out >= 0) {
		off_t left = st.st_size;
		while (left > 0) {
			ssize_t n = copy_file_range(in, 0, out, 0, left, 0);
			if (n <= 0)
				break;
			left -= n;
		}
		ret = left > 0 ? -1 : 0;
		close(out);
	}
	close(in);
	return ret;
}
`;

export interface SuiteTest {
  readonly program: string;
  /** How long it goes on, in its own unit, before `scale`. */
  readonly args: (n: (count: number) => string) => readonly string[];
  /** Empty files that it wants to find. */
  readonly files?: readonly string[];
  /** Of two nodes only. */
  readonly two?: boolean;
}

const W = `${AT}/w`;
const xattr = (namespace: string, type: string, ...more: readonly string[]): SuiteTest => ({
  program: "xattr-multi-test",
  args: () => ["-i", "1", "-n", namespace, "-t", type, ...more, W],
});
const few = ["-x", "20", "-l", "50", "-s", "200"];
const reflink = (what: string, bytes: number, count: number, ...more: readonly string[]): SuiteTest => ({
  program: NAMED,
  args: (n) => ["-i", "1", "-l", `${bytes}`, "-n", n(count), "-w", W, what, ...more],
});

/** As multiple_run.sh and the scripts that it calls run them, shorter. */
export const SUITE: readonly SuiteTest[] = [
  { program: "flock_unit_test", args: () => ["-t", "flock", `${W}/1`, `${W}/2`], files: ["1", "2"], two: true },
  { program: "write_append_truncate", args: (n) => [`${W}/file`, n(300)] },
  { program: "multi_mmap", args: (n) => ["-i", n(200), "-c", "-b", "6000", "-h", `${W}/file`] },
  { program: "multi_mmap", args: (n) => ["-i", n(50), "-r", "regular", "-w", "mmap", "-b", "508", `${W}/file`] },
  { program: "multi_mmap", args: (n) => ["-i", n(50), "-r", "mmap", "-w", "regular", "-b", "508", `${W}/file`] },
  { program: "multi_mmap", args: (n) => ["-i", n(50), "-r", "random", "-w", "random", "-b", "508", `${W}/file`] },
  { program: "create_racer", args: (n) => ["-i", n(300), W] },
  { program: "open_delete", args: (n) => ["-i", n(200), `${W}/file`] },
  ...["user", "trusted", "security"].flatMap((namespace) =>
    ["normal", "directory", "symlink"]
      .filter((type) => namespace !== "user" || type !== "symlink")
      .map((type) => xattr(namespace, type, ...few)),
  ),
  xattr("user", "normal", "-x", "1", "-l", "50", "-s", "65536"),
  xattr("user", "normal", "-x", "300", "-l", "100", "-s", "200"),
  xattr("user", "normal", "-x", "100", "-l", "255", "-s", "5000", "-o", "-r", "-k"),
  ...["-g", "-m", "-r", "-u", "-f", "-s"].map(
    (what): SuiteTest => ({ program: "multi_index_dir", args: (n) => ["-i", "1", "-n", n(400), "-w", W, what] }),
  ),
  { program: "multi_directio_test", args: (n) => ["-i", "1", "-l", `${8192 * Number(n(100))}`, "-w", `${W}/file`] },
  ...["-f", "-r", "-m", "-O"].map((what) => reflink(what, 10 << 20, 10)),
  reflink("-f", 10 << 20, 10, "-A"),
  reflink("-f", 3800, 10),
  reflink("-c", 2 << 20, 20),
  reflink("-s", 64 << 20, 20, "-p", "10"),
];

/** Why it cannot be run here, with what to do about it; undefined when it can. */
export function ocfs2TestUnavailable(): string | undefined {
  const dir = process.env["OCFS2TEST_DIR"];
  if (dir === undefined || !existsSync(join(dir, "programs", "libocfs2test")))
    return "set OCFS2TEST_DIR to a checkout of markfasheh/ocfs2-test (the folder with programs/)";
  const lacking = missing("mpicc", "mpirun", "unshare");
  if (lacking.length > 0) return `not installed: ${lacking.join(", ")} (Debian: libopenmpi-dev openmpi-bin)`;
  if (!existsSync("/usr/include/ocfs2/ocfs2.h")) return "not installed: libocfs2 (Debian: ocfs2-tools-dev)";
  return clusterUnavailable() ?? fsckUnavailable();
}

/** Compiles all; the folder with the programs. */
export function buildOcfs2Test(): string {
  const from = join(process.env["OCFS2TEST_DIR"]!, "programs");
  const dir = tempDir("ocfs2-test-suite");
  writeFileSync(join(dir, "reflink.c"), REFLINK_C);
  const flags = ["-w", "-O1", "-fcommon", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-D_LARGEFILE64_SOURCE"];
  for (const [name, { sources, libs = [], mend }] of Object.entries(PROGRAMS)) {
    const paths = sources.map((s) => join(from, s));
    if (mend !== undefined) {
      const [file, wrong, right] = mend;
      const text = readFileSync(join(from, file), "utf8");
      const mended = join(dir, "mended.c");
      writeFileSync(mended, text.replace(wrong, right));
      paths[sources.indexOf(file)] = mended;
    }
    const include = [join(from, "libocfs2test"), ...sources.map((s) => join(from, s, ".."))].flatMap((i) => ["-I", i]);
    if (name === NAMED) paths.push(join(dir, "reflink.c"));
    sh(["mpicc", ...flags, "-DOCFS2_FLAT_INCLUDES", ...include, "-o", join(dir, name), ...paths, "-lpthread", ...libs]);
  }
  return dir;
}

export interface SuiteResult {
  readonly tests: { readonly name: string; readonly seconds: number; readonly failure: string }[];
  /** Of fsck.ocfs2 at the end. */
  readonly findings: readonly string[];
}

const MPIRUN = [
  ...["mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "btl", "self,vader"],
  ...["--mca", "btl_vader_single_copy_mechanism", "none", "--mca", "hwloc_base_binding_policy", "none"],
  ...["--mca", "mpi_yield_when_idle", "1"],
];

/** Runs those tests whose name has `only` in it, on `nodes` nodes. `scale`: how much longer than by default. */
export async function runOcfs2Test(
  programs: string,
  o: { nodes: number; scale: number; only: string; timeout_s: number; onTest: (done: number, name: string) => void },
): Promise<SuiteResult> {
  const numbers = Array.from({ length: o.nodes }, (_, i) => 11 + i);
  const rig = new ClusterRig(clusterImage(2048), numbers, 31);
  const members = numbers.map((n) => new OurMember(rig, n));
  await Promise.all(members.map((m) => m.mount()));
  const rank = join(programs, "rank");
  const at = members.map((m, i) => `${i}) d=${m.dir};;`).join(" ");
  // Its tree of mounts is a copy; a slave, so that who unmounts something else meanwhile need not wait for this program's end.
  writeFileSync(
    rank,
    `#!/bin/sh\ncase $OMPI_COMM_WORLD_RANK in ${at} esac\nexport d\n` +
      `exec unshare --mount --propagation slave sh -c 'mount -t tmpfs none /mnt && mkdir ${AT} && mount --bind $d ${AT} && exec "$@"' sh "$@"\n`,
  );
  chmodSync(rank, 0o755);
  const count = (n: number): string => String(Math.max(1, Math.round(n * o.scale)));
  const tests: SuiteResult["tests"] = [];
  for (const test of SUITE) {
    const argv = test.args(count);
    const name = [test.program, ...argv].join(" ").replaceAll(`${AT}/`, "");
    if (!name.includes(o.only)) continue;
    o.onTest(tests.length, name);
    await members[0]!.run("mkdir $D/w");
    for (const file of test.files ?? []) await members[0]!.run(`: > $D/w/${file}`);
    const began = performance.now();
    const ranks = test.two ? 2 : o.nodes;
    const ran = await runAsync([...MPIRUN, "-np", String(ranks), rank, join(programs, test.program), ...argv], {
      env: toolEnv(),
      timeout_ms: o.timeout_s * 1000,
    });
    const failure =
      ran.status === 0 ? "" : `status ${ran.status}\n${ran.stdout.slice(-2000)}\n${ran.stderr.slice(-2000)}`;
    tests.push({ name, seconds: (performance.now() - began) / 1000, failure });
    await run(["rm", "-r", join(members.at(-1)!.dir, "w")]);
  }
  for (const m of members) {
    await m.unmount();
    m.close();
  }
  rig.close();
  return { tests, findings: (await fsckAsync(rig.image)).findings };
}
