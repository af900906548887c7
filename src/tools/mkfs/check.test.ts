/** Devices that must not be formatted by mistake: each in its own way, and -F past each. */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { ExtendedSlot } from "../../format/disk/index.ts";
import { seededRandom, systemClock } from "../../lib/clock.ts";
import { O, ofdTryLock, openFile } from "../../native/index.ts";
import { checkTarget } from "./check.ts";
import { resolveCluster } from "./cluster_info.ts";
import { findExisting } from "./existing.ts";
import { mkfs } from "./index.ts";
import { parseOptions, type RawOptions } from "./options.ts";
import { MIB } from "./params.ts";
import { whatIsOn } from "./signatures.ts";
import { openTarget, type Target, targetSink } from "./target.ts";

const dir = mkdtempSync(join(tmpdir(), "ocfs2-mkfs-"));
afterAll(() => rmSync(dir, { recursive: true }));

let path = "";
let files = 0;
beforeEach(() => {
  path = join(dir, `image${files++}`);
  writeFileSync(path, "");
  truncateSync(path, 64 * MIB);
});

const put = (text: string | number[], off: number): void => {
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.from(text as string, "latin1"), 0, undefined, off);
  closeSync(fd);
};

function withTarget<T>(f: (t: Target) => T): T {
  const target = openTarget(path);
  try {
    return f(target);
  } finally {
    target.close();
  }
}

function make(raw: RawOptions, cluster = false): void {
  const { params } = parseOptions(raw);
  const full = cluster ? { ...params, cluster: { stack: "o2cb", name: "rig", flags: 0 } } : params;
  withTarget((t) => mkfs(full, t, targetSink(t, 0), { clock: systemClock, random: seededRandom(3) }));
}

describe("what a device carries is recognized", () => {
  const K = 1024;
  test.each<[RegExp, string | number[], number]>([
    [/ext4/, [0x53, 0xef], K + 56],
    [/XFS/, "XFSB", 0],
    [/btrfs/, "_BHRfS_M", 64 * K + 64],
    [/swap/, "SWAPSPACE2", 4 * K - 10],
    [/swap/, "SWAPSPACE2", 64 * K - 10],
    [/NTFS/, "NTFS    ", 3],
    [/FAT/, "FAT16   ", 54],
    [/exFAT/, "EXFAT   ", 3],
    [/LUKS/, "LUKS\xba\xbe", 0],
    [/GPT/, "EFI PART", 512],
    [/RAID/, [0xfc, 0x4e, 0x2b, 0xa9], 4 * K],
    [/ISO 9660/, "CD001", 32 * K + 1],
    [/F2FS/, [0x10, 0x20, 0xf5, 0xf2], K],
    [/GFS2/, [1, 0x16, 0x19, 0x70], 64 * K],
  ])("%s", (what, magic, at) => {
    put(magic, at);
    withTarget((t) => {
      expect(whatIsOn(t.readAt)).toMatch(what);
      expect(() => checkTarget(t, false)).toThrow(/^[^\n]+ carries [^\n]+wipefs[^\n]+; -F formats it all the same$/);
      expect(checkTarget(t, true).warnings).toHaveLength(1);
    });
  });

  test("LVM", () => {
    put("LABELONE", 512);
    put("LVM2 001", 512 + 24);
    withTarget((t) => expect(whatIsOn(t.readAt)).toMatch(/LVM/));
  });

  test("a partition table, but not any boot sector", () => {
    put([0x55, 0xaa], 510);
    withTarget((t) => expect(whatIsOn(t.readAt)).toBeUndefined());
    put([0x80, 0, 2, 0, 0x83], 446);
    withTarget((t) => expect(whatIsOn(t.readAt)).toMatch(/partition table \(MBR\)/));
  });

  test("zeros and noise are nothing", () => {
    withTarget((t) => expect(whatIsOn(t.readAt)).toBeUndefined());
    const random = seededRandom(5);
    put(
      Array.from({ length: 70 * K }, () => random.u32() & 0xff),
      0,
    );
    withTarget((t) => expect(whatIsOn(t.readAt)).toBeUndefined());
  });

  test("a volume of ours is none of them", () => {
    make({ mount: "local" });
    withTarget((t) => expect(whatIsOn(t.readAt)).toBeUndefined());
  });
});

describe("an OCFS2 volume", () => {
  test("a local one is for the user to decide", () => {
    make({ mount: "local", label: "mine" });
    withTarget((t) => expect(checkTarget(t, false).existing).toMatchObject({ label: "mine", local: true }));
  });

  test.each<RawOptions>([
    { nodeSlots: "2" },
    { nodeSlots: "2", fsFeatures: "noextended-slotmap" },
    { nodeSlots: "2", fsFeatures: "noinline-data", blockSize: "512" },
  ])("of a cluster: %j", (raw) => {
    make(raw);
    withTarget((t) => expect(checkTarget(t, false).existing).toMatchObject({ local: false, nodes: [] }));
  });

  test("that a node has mounted is refused", () => {
    make({ nodeSlots: "4", blockSize: "4K" }, true);
    // The entry's inode, and that inode's first extent.
    const image = readFileSync(path);
    const name = Buffer.from("slot_map");
    const entry = image.indexOf(name) - 12;
    const inode = Number(image.readBigUInt64LE(entry));
    const map = Number(image.readBigUInt64LE(inode * 4096 + 0xc0 + 0x10 + 8));
    const slot = ExtendedSlot.alloc();
    slot.es_valid = 1;
    slot.es_node_num = 7;
    put([...slot.bytes()], map * 4096 + 2 * ExtendedSlot.size);
    withTarget((t) => {
      expect(findExisting(t.readAt)?.nodes).toEqual([7]);
      expect(() => checkTarget(t, false)).toThrow(/node 7 of its cluster mounted/);
      expect(checkTarget(t, true).warnings[0]).toMatch(/node 7/);
    });
  });

  test("with a slot map that cannot be read is refused", () => {
    make({ nodeSlots: "2", blockSize: "4K" });
    const image = readFileSync(path);
    put("slot_mop", image.indexOf("slot_map"));
    withTarget((t) => expect(() => checkTarget(t, false)).toThrow(/slot map cannot be read/));
  });
});

describe("a device in use", () => {
  test("one that another open holds", () => {
    const fd = openFile(path, O.RDWR, 0);
    expect(ofdTryLock(fd, true)).toBe(0);
    withTarget((t) => {
      expect(() => checkTarget(t, false)).toThrow(/in use by another process/);
      expect(checkTarget(t, true).warnings).toHaveLength(1);
    });
    closeSync(fd);
    withTarget((t) => expect(checkTarget(t, false).warnings).toEqual([]));
  });

  test("what is no device is refused when it is opened", () => {
    expect(() => openTarget(dir)).toThrow(/neither a block device nor a regular file/);
    expect(() => openTarget(join(dir, "none"))).toThrow(/does not exist/);
  });
});

describe("which cluster a volume is for", () => {
  const none = { active: undefined, on_disk: undefined, force: false };
  const o2cb = { stack: "o2cb", name: "a", flags: 0 };
  const pcmk = { stack: "pcmk", name: "b", flags: 0 };
  const ask = (raw: RawOptions, from: Parameters<typeof resolveCluster>[2]) => {
    const { params, wish } = parseOptions(raw);
    return resolveCluster(params, wish, from);
  };
  test("none is classic o2cb", () => expect(ask({}, none)).toBeUndefined());
  test("the user's", () => expect(ask({ clusterStack: "o2cb", clusterName: "a" }, none)).toEqual(o2cb));
  test("a running o2cb is not named unless it is asked for", () => {
    expect(ask({}, { ...none, active: o2cb })).toBeUndefined();
    expect(ask({ fsFeatures: "clusterinfo" }, { ...none, active: o2cb })).toEqual(o2cb);
  });
  test("a running one with global heartbeat is named", () => {
    const global = { ...o2cb, flags: 1 };
    expect(ask({}, { ...none, active: global })).toEqual(global);
  });
  test("that of the volume before", () => expect(ask({}, { ...none, on_disk: pcmk })).toEqual(pcmk));
  test("not for a local one", () => expect(ask({ mount: "local" }, { ...none, active: pcmk })).toBeUndefined());
  test("contradictions are refused, but for -F", () => {
    expect(() => ask({}, { active: pcmk, on_disk: { ...pcmk, name: "c" }, force: false })).toThrow(/on disk cluster/);
    expect(() => ask({ clusterStack: "o2cb", clusterName: "a" }, { ...none, active: pcmk })).toThrow(/user requested/);
    expect(ask({}, { active: pcmk, on_disk: { ...pcmk, name: "c" }, force: true })).toEqual(pcmk);
  });
  test("clusterinfo without a cluster is refused", () =>
    expect(() => ask({ fsFeatures: "clusterinfo" }, none)).toThrow(/needs a cluster/));
});

describe("zeros", () => {
  const sinkOver = (discard_bytes: number, f: (zero: (off: number, len: number) => void) => void): Buffer => {
    withTarget((t) => f(targetSink(t, discard_bytes).zero));
    return readFileSync(path);
  };

  test("an empty file stays empty", () => {
    sinkOver(0, (zero) => zero(0, 8 * MIB));
    expect(statSync(path).blocks).toBe(0);
  });
  test.each([0, 64 * MIB])("old contents go, discarding %i bytes", (discard_bytes) => {
    put("x".repeat(3 * MIB), MIB);
    const image = sinkOver(discard_bytes, (zero) => zero(MIB, 3 * MIB + 5));
    expect(image.equals(Buffer.alloc(image.length))).toBe(true);
  });
  test("what lies behind a smaller volume stays", () => {
    put("keep me", 40 * MIB);
    put("old", MIB);
    const image = sinkOver(20 * MIB, (zero) => zero(0, 20 * MIB));
    expect(image.subarray(40 * MIB, 40 * MIB + 7).toString()).toBe("keep me");
    expect(image[MIB]).toBe(0);
  });
});
