#!/usr/bin/env node
// A virtual machine that stands still without noticing: a node of ours in a guest (qemu, software emulation, Debian's kernel) and one here share a volume.
// The guest is stopped while it writes; its clock counts a few seconds of that, its peers declare it dead, take its files over and unmount. Then
// it goes on. Its node must end itself, and nothing of the volume may change but by the write that was on its way when the guest stopped.
//   node scripts/frozen_vm.mjs [--root DIR] [--frozen SECONDS] [--kernel DIR]
// --root is the checkout that the guest runs: with one that counts its leases in CLOCK_BOOTTIME alone this fails. --kernel is a folder with boot/ and
// lib/modules/ of Debian's linux-image-amd64; without it the package is downloaded.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { flag, option, root } from "../test/support/run_ts.mjs";
import { clusterConf } from "./demo_cluster.mjs";

if (flag("help")) {
  console.log("usage: node scripts/frozen_vm.mjs [--root DIR] [--frozen SECONDS] [--kernel DIR]");
  process.exit(0);
}
const NEEDS = { "qemu-system-x86_64": "qemu-system-x86", busybox: "busybox-static", cpio: "cpio", modprobe: "kmod" };
const which = (program) => spawnSync("which", [program]).status === 0;
const missing = Object.keys(NEEDS).filter((program) => !which(program));
if (process.getuid() !== 0 || missing.length > 0) {
  const what = missing.length > 0 ? `apt-get install ${missing.map((m) => NEEDS[m]).join(" ")}` : "run it as root";
  console.error(`frozen_vm: ${what}`);
  process.exit(2);
}
const sh = (argv, options = {}) => execFileSync(argv[0], argv.slice(1), { encoding: "utf8", ...options });

function downloadKernel(dir) {
  const name = /Depends: (linux-image-\S+)/.exec(sh(["apt-cache", "depends", "linux-image-amd64"]))[1];
  sh(["apt-get", "download", "-q", name], { cwd: dir, stdio: ["ignore", "ignore", "pipe"] });
  const deb = readdirSync(dir).find((file) => file.endsWith(".deb"));
  sh(["dpkg", "-x", deb, "."], { cwd: dir });
  return dir;
}

// Its network and its mounts are its own, and go with it. What is downloaded is so before.
if (!flag("inside")) {
  const folder = mkdtempSync(join(tmpdir(), "ocfs2-kernel-"));
  let status = 1;
  try {
    const kernel = option("kernel", "") === "" ? ["--kernel", downloadKernel(folder)] : [];
    const again = [process.execPath, ...process.argv.slice(1), ...kernel, "--inside"];
    const argv = ["-n", "-m", "--propagation", "private", ...again];
    status = spawnSync("unshare", argv, { stdio: "inherit" }).status ?? 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.exit(status);
}

/** Heartbeats every 2 s: dead for the others after 14 s, and writes stop after 6. */
const ENV = { O2CB_HEARTBEAT_THRESHOLD: "7" };
const WRITERS = 4;
const MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "9pnet_virtio", "9p", "fuse"];
const guest_root = option("root", root);
const frozen_s = option("frozen", 40);
const work = mkdtempSync(join(tmpdir(), "ocfs2-frozen-"));
const started = Date.now();
const say = (line) => console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}`);
const ocfs2 = (...args) => sh([join(root, "bin", "ocfs2"), ...args], { env: { ...process.env, ...ENV } });

/** The guest's first programs: busybox, the drivers, and what it is to do once it has the files of this machine, read-only. */
function initramfs(from) {
  const version = readdirSync(join(from, "lib", "modules"))[0];
  sh(["depmod", "-b", from, version]);
  const dir = join(work, "initramfs");
  for (const d of ["bin", "mod", "proc", "sys", "dev", "host"]) mkdirSync(join(dir, d), { recursive: true });
  sh(["cp", sh(["which", "busybox"]).trim(), join(dir, "bin")]);
  const files = MODULES.flatMap((name) =>
    sh(["modprobe", "-d", from, "-S", version, "--show-depends", name])
      .split("\n")
      .filter((line) => line.startsWith("insmod"))
      .map((line) => line.split(/\s+/)[1]),
  );
  const order = [...new Set(files)];
  for (const file of order) sh(["cp", file, join(dir, "mod")]);
  const init = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for m in ${order.map((f) => basename(f)).join(" ")}; do $b insmod /mod/$m; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /host
for d in proc sys dev; do $b mount -o move /$d /host/$d; done
for d in tmp run; do $b mount -t tmpfs t /host/$d; done
$b cp /guest.sh /cluster.conf /host/run
exec $b chroot /host /bin/bash /run/guest.sh
`;
  const guest = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run ${Object.entries(
    ENV,
  )
    .map((e) => e.join("="))
    .join(" ")}
echo "GUEST clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
ip link set lo up; ip addr add 10.99.0.2/24 dev eth0; ip link set eth0 up
mkdir /run/mnt
node=$(readlink -f ${process.execPath})
$node ${guest_root}/bin/ocfs2 mount -o config=/run/cluster.conf,node=guest /dev/vda /run/mnt || echo GUEST cannot mount
pid=$($node ${guest_root}/bin/ocfs2 node status --node guest --json | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' | head -1)
echo "GUEST mounted $pid, clocks $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)"
for w in $(seq ${WRITERS}); do
  perl -e 'my ($name, $i) = ($ARGV[0], 0); $| = 1; use IO::Handle;
    open(my $f, "+>", "/run/mnt/$name") or die "GUEST $name: $!\\n";
    while (1) {
      sysseek($f, ($i % 64) * 65536, 0);
      (syswrite($f, chr(65 + $i % 26) x 65536) // 0) == 65536 && $f->sync or die "GUEST $name ends: $!\\n";
      print "GUEST $name wrote $i\\n" if ++$i % 10 == 0;
    }' guest-$w &
done
up() { cut -d" " -f1 /proc/uptime; }
while kill -0 $pid; do sleep 0.2; echo "GUEST up $(up)"; done 2>/dev/null
echo "GUEST node ended $(up)"
sleep 1000
`;
  writeFileSync(join(dir, "init"), init, { mode: 0o755 });
  writeFileSync(join(dir, "guest.sh"), guest);
  sh(["cp", join(work, "cluster.conf"), dir]);
  sh(["bash", "-c", "find . | cpio --quiet -o -H newc | gzip -1 > ../initramfs.gz"], { cwd: dir });
  return { kernel: join(from, "boot", `vmlinuz-${version}`), initrd: join(work, "initramfs.gz") };
}

/** What the guest says; `until` waits for a line of its. */
class Console {
  lines = [];
  #waiting = [];

  constructor(stream) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (text) => {
      const lines = (rest + text).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        this.lines.push(line);
        if (!/GUEST up|wrote/.test(line) && /GUEST|ocfs2/.test(line)) say(line);
        this.#waiting = this.#waiting.filter((w) => !w(line));
      }
    });
  }

  until(what, test, limit_s) {
    return new Promise((ok, no) => {
      const timer = setTimeout(
        () => no(new Error(`not within ${limit_s} s: ${what}\n${this.lines.slice(-20).join("\n")}`)),
        limit_s * 1000,
      );
      this.#waiting.push((line) => {
        const found = test(line);
        if (found) {
          clearTimeout(timer);
          ok(found);
        }
        return found;
      });
    });
  }
}

const uptime = (lines) => Number(/GUEST up ([\d.]+)/.exec(lines.findLast((l) => /GUEST up [\d.]+$/.test(l)))[1]);

/** Runs of blocks of 4 KiB that differ, each with the file that it belongs to. */
function changes(before, after) {
  const command = `cmp -l "$1" "$2" | awk '{print int(($1 - 1) / 4096)}' | uniq`;
  const argv = ["-o", "pipefail", "-c", command, "sh", before, after];
  const { status, stdout, stderr, error } = spawnSync("bash", argv, { encoding: "utf8", maxBuffer: 64 << 20 });
  // cmp's: 1 where the two differ, and 2 where it could not tell.
  if (error !== undefined || status === null || status > 1) throw error ?? new Error(`cmp: ${stderr}`);
  const runs = [];
  for (const block of stdout.split("\n").filter(Boolean).map(Number)) {
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.blocks === block) last.blocks++;
    else runs.push({ first: block, blocks: 1 });
  }
  return runs.map(({ first, blocks }) => {
    const owner = sh(["debugfs.ocfs2", "-R", `icheck ${first}`, before])
      .trim()
      .split("\n")
      .at(-1);
    return `${blocks} blocks (the first, its inode, which of the file: ${owner.trim().split(/\s+/).join(", ")})`;
  });
}

/** What the guest had handed over when it stopped comes when it goes on: one write, or none. A node that writes on writes many. */
const IN_FLIGHT = 1;

const problems = [];
let qemu;
let mounted = false;
const mnt = join(work, "mnt");
const image = join(work, "volume.img");
async function run() {
  sh(["ip", "link", "set", "lo", "up"]);
  sh(["ip", "tuntap", "add", "tap0", "mode", "tap"]);
  sh(["ip", "addr", "add", "10.99.0.1/24", "dev", "tap0"]);
  sh(["ip", "link", "set", "tap0", "up"]);
  mkdirSync(mnt);
  const nodes = [
    { number: 1, name: "here", address: "10.99.0.1" },
    { number: 2, name: "guest", address: "10.99.0.2" },
  ];
  writeFileSync(join(work, "cluster.conf"), clusterConf("frozen", nodes, 7777));
  writeFileSync(image, "");
  truncateSync(image, 512 << 20);
  ocfs2("mkfs", "-q", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=frozen", image);
  // The guest cannot build what is not built: it has these files read-only.
  sh([join(guest_root, "bin", "ocfs2"), "--version"]);
  ocfs2("mount", "-o", `config=${join(work, "cluster.conf")},node=here`, image, mnt);
  mounted = true;

  const boot = initramfs(option("kernel", ""));
  const append = "console=ttyS0 panic=-1 clocksource=acpi_pm tsc=reliable quiet";
  const argv = [
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2", "-nographic", "-no-reboot", "-monitor"],
    ...["none", "-kernel", boot.kernel, "-initrd", boot.initrd, "-append", append],
    ...["-fsdev", "local,id=h,path=/,security_model=none,readonly=on,multidevs=remap"],
    ...["-device", "virtio-9p-pci,fsdev=h,mount_tag=host"],
    ...["-drive", `file=${image},format=raw,if=virtio,cache=none,file.locking=off`],
    ...["-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n"],
  ];
  say("the guest boots");
  qemu = spawn("qemu-system-x86_64", argv, { stdio: ["ignore", "pipe", "inherit"] });
  const guest = new Console(qemu.stdout);
  await guest.until("the guest mounts", (l) => /GUEST mounted \d+/.test(l), 300);
  await guest.until("all writers write", (l) => l.includes(`GUEST guest-${WRITERS} wrote`), 120);
  await guest.until("it goes on", (l) => /GUEST guest-1 wrote/.test(l), 60);
  const before = uptime(guest.lines);

  process.kill(qemu.pid, "SIGSTOP");
  const stopped = Date.now();
  say("the guest stands still");
  // Waits until the guest is dead and recovered.
  const ours = Buffer.alloc(4 << 20, "h");
  for (let w = 1; w <= WRITERS; w++) {
    const argv = ["dd", `of=${join(mnt, `guest-${w}`)}`, "bs=1M", "conv=notrunc,fsync", "status=none"];
    sh(argv, { input: ours, timeout: 120_000 });
  }
  say("its files are taken over");
  rmSync(join(mnt, "guest-1"));
  writeFileSync(join(mnt, "new"), ours);
  ocfs2("umount", mnt);
  mounted = false;
  const left = join(work, "left.img");
  sh(["cp", "--sparse=always", image, left]);
  await pause(Math.max(0, stopped + frozen_s * 1000 - Date.now()));

  const stood_s = (Date.now() - stopped) / 1000;
  process.kill(qemu.pid, "SIGCONT");
  say(`the guest goes on after ${stood_s.toFixed(1)} s`);
  await guest.until("the guest runs", (l) => /GUEST up/.test(l), 60);
  const counted_s = uptime(guest.lines) - before;
  say(`its clock has counted ${counted_s.toFixed(1)} s of that`);
  if (counted_s > stood_s / 2) problems.push("the guest's clock went on: this shows nothing");
  if (!guest.lines.some((l) => l.includes("GUEST node ended")))
    await guest
      .until("its node ends", (l) => l.includes("GUEST node ended"), 60)
      .catch((e) => problems.push(e.message));
  // What was under way in it has reached the disk by now, if ever.
  await pause(10_000);
  const changed = changes(left, image);
  if (changed.length > IN_FLIGHT)
    problems.push(`the volume has changed after the guest was dead for its peers:\n${changed.slice(0, 40).join("\n")}`);
  else for (const write of changed) say(`on its way when the guest stopped: ${write}`);
  const fsck = spawnSync("fsck.ocfs2", ["-fn", image], { encoding: "utf8" });
  if (fsck.status !== 0) problems.push(`fsck.ocfs2 -fn: ${fsck.status}\n${fsck.stdout}`);
}

try {
  await run();
} catch (e) {
  problems.push(String(e.stack ?? e));
} finally {
  if (qemu?.exitCode === null) {
    process.kill(qemu.pid, "SIGKILL");
    await new Promise((ok) => qemu.once("exit", ok));
  }
  if (mounted) ocfs2("umount", mnt);
  rmSync(work, { recursive: true, force: true });
}
for (const problem of problems) console.log(`PROBLEM: ${problem}`);
say(problems.length === 0 ? "its node has ended, and wrote nothing more" : "failed");
process.exit(problems.length === 0 ? 0 : 1);
