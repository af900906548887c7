/**
 * Reflinks between us and a kernel, on one image by turns: what one shared the other reads, writes to, shares again and
 * frees. The kernel BUGs on a tree whose counts are not what it expects, so its silence is part of the test.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../src/lib/clock.ts";
import { lookup } from "../../src/vfs/namespace.ts";
import { tempDir } from "../support/cleanup.ts";
import { fsckClean } from "../support/judges.ts";
import { long } from "../support/long.ts";
import { alternate, Bench, changes, File, pattern } from "../support/reflink_bench.ts";
import { type KernelNode, rigUnavailable, withKernelNode } from "../support/rig.ts";
import { haveTool, mkfsImage, openImage, writeSparse } from "../support/volume.ts";

/** One change a line: write, punch, truncate, FICLONE to a new file, FICLONERANGE to a new file, unlink. */
const CHANGER = `
use strict; chdir "/o" or die;
while (<STDIN>) {
  my ($what, $name, @a) = split; print STDERR;
  if ($what eq "d") { unlink($name) or die "unlink: $!"; next; }
  my $flags = $what =~ /[cr]/ ? "<" : "+<";
  open(my $f, $flags, $name) or die "open: $!";
  if ($what eq "w") { sysseek($f, $a[0], 0); syswrite($f, chr($a[2]) x $a[1]) == $a[1] or die "write: $!"; }
  elsif ($what eq "p") { syscall(285, fileno($f), 3, $a[0] + 0, $a[1] + 0) == 0 or die "punch: $!"; }
  elsif ($what eq "t") { truncate($f, $a[0]) or die "truncate: $!"; }
  else {
    open(my $t, "+>", $a[0]) or die "open $a[0]: $!";
    if ($what eq "c") { ioctl($t, 0x40049409, fileno($f) + 0) or die "FICLONE: $!"; }
    else { my $arg = pack("q<Q<Q<Q<", fileno($f), $a[1], $a[2], $a[3]); ioctl($t, 0x4020940d, $arg) or die "FICLONERANGE: $!"; }
    close($t) or die "close: $!";
  }
  close($f) or die "close: $!";
}`;

/** Changes for the kernel to make, and made to the model at once. */
function kernelChanges(files: File[], random: Random, ops: number, clustersize: number, round: number): string {
  const below = (n: number): number => random.u32() % n;
  const lines: string[] = [];
  for (let i = 0; i < ops; i++) {
    const f = files[below(files.length)]!;
    const offset = below(400_000);
    const len = 1 + below(below(2) === 0 ? 500 : 60_000);
    const kind = below(10);
    if (kind < 4) {
      lines.push(`w ${f.name} ${offset} ${len} ${1 + (i % 250)}`);
      f.write(offset, new Uint8Array(len).fill(1 + (i % 250)));
    } else if (kind === 4) {
      lines.push(`p ${f.name} ${offset} ${len}`);
      f.bytes.fill(0, offset, offset + len);
    } else if (kind === 5) {
      lines.push(`t ${f.name} ${offset}`);
      f.truncate(offset);
    } else if (kind < 8) {
      const clone = f.clone(`k${round}-${i}`, 0);
      lines.push(`c ${f.name} ${clone.name}`);
      files.push(clone);
    } else if (kind === 8 && f.size > 2 * clustersize) {
      const clone = new File(`k${round}-${i}`, 0);
      const whole = Math.floor(f.size / clustersize);
      const from = below(whole) * clustersize;
      const n = (1 + below(whole - from / clustersize)) * clustersize;
      const to = below(20) * clustersize;
      lines.push(`r ${f.name} ${clone.name} ${from} ${n} ${to}`);
      clone.write(to, f.bytes.slice(from, from + n));
      files.push(clone);
    } else if (files.length > 5) {
      lines.push(`d ${f.name}`);
      files.splice(files.indexOf(f), 1);
    }
  }
  return lines.map((l) => `${l}\n`).join("");
}

const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");

const manifestOf = (files: readonly File[]): string[] =>
  files.map((f) => `${md5(f.bytes.subarray(0, f.size))} ${f.size} ${f.name}`).sort();

/** What the kernel reads. */
async function kernelManifest(node: KernelNode): Promise<string[]> {
  const out = await node.run(
    'cd /o && for f in *; do [ -f "$f" ] && echo "$(md5sum < "$f" | cut -d" " -f1) $(stat -c "%s %n" "$f")"; done; true',
  );
  return out.trim().split("\n").filter(Boolean).sort();
}

const KINDS: [string, string[]][] = [
  ...(long ? [["4K blocks, 4K clusters", ["-b", "4K", "-C", "4K"]] as [string, string[]]] : []),
  [
    "512 blocks, 4K clusters, metaecc",
    ["-b", "512", "-C", "4K", "-J", "size=4M", "--fs-features=metaecc,noindexed-dirs"],
  ],
];

describe.skipIf(!haveTool("mkfs.ocfs2") || rigUnavailable() !== undefined)("reflinks of ours and of a kernel's", () => {
  for (const [name, args] of KINDS) {
    test(`${name}: each reads, changes and frees what the other shared`, { timeout: 300_000 }, async () => {
      const dir = tempDir("reflink");
      const path = join(dir, "img");
      const random = seededRandom(21);
      let files: File[] = [];
      let bytes = mkfsImage(args, 128);
      const ours = (work: (b: Bench) => void): void => {
        const b = new Bench(openImage(bytes));
        b.files = files;
        for (const f of files)
          f.ino = b.v.osb.runSync((op) => lookup(op, b.v.osb.geo.root_blkno, Buffer.from(f.name))!.ino);
        b.check("as the kernel left it");
        work(b);
        // Allocated behind the end of a file is a finding for fsck.ocfs2, whoever did it.
        for (const f of b.files) b.setSize(f, f.size);
        files = b.files;
        b.close();
        writeSparse(path, bytes);
      };
      const kernel = async (round: number, ops: number, clustersize: number): Promise<void> => {
        await fsckClean(path);
        await withKernelNode(path, async (node) => {
          expect(await kernelManifest(node), "what we left, as the kernel reads it").toEqual(manifestOf(files));
          const list = kernelChanges(files, random, ops, clustersize, round);
          writeFileSync(join(dir, "changer.pl"), CHANGER);
          writeFileSync(join(dir, "changes"), list);
          await node.run(`perl /host${dir}/changer.pl < /host${dir}/changes`);
          await node.run("sync; echo 3 > /proc/sys/vm/drop_caches");
          expect(await kernelManifest(node), "its own changes").toEqual(manifestOf(files));
        });
        await fsckClean(path);
        bytes = new Uint8Array(readFileSync(path));
      };
      let clustersize = 0;
      ours((b) => {
        clustersize = b.v.osb.geo.clustersize;
        for (let i = 0; i < 2; i++) b.write(b.create(), 0, pattern(i === 0 ? 900_000 : 150, i));
        alternate(b, 750);
        changes(b, random, 80, true, () => {});
        b.check("after our changes");
      });
      await kernel(1, 80, clustersize);
      ours((b) => {
        changes(b, random, 60, true, () => {});
        b.check("after our second changes");
      });
      await kernel(2, 60, clustersize);
      // All gone again, half by us and half by the kernel.
      ours((b) => {
        for (const f of b.files.filter((_, i) => i % 2 === 0)) b.remove(f);
      });
      await withKernelNode(path, async (node) => {
        expect(await kernelManifest(node)).toEqual(manifestOf(files));
        await node.run("rm /o/*.* /o/[a-z]* 2>/dev/null; ls /o");
      });
      await fsckClean(path);
    });
  }
});
