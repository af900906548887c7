import { describe, expect, test } from "vitest";
import { FEATURE_INCOMPAT, FEATURE_RO_COMPAT } from "../../format/disk/index.ts";
import { chooseFeatures, featureText } from "./features.ts";
import { figureGeometry } from "./geometry.ts";
import { parseBytes, parseOptions, parseUuid } from "./options.ts";
import { GIB, MIB } from "./params.ts";

describe("numbers", () => {
  test.each([
    ["4096", 4096],
    ["4K", 4096],
    ["1m", 1048576],
    ["2G", 2147483648],
    ["512b", 512],
    ["0x1000", 4096],
    ["0x1b", 27],
    ["010", 8],
  ])("%s", (text, n) => expect(parseBytes(text)).toBe(n));
  test.each(["", "k", "4X", "-1", "1.5K", "4 K", "4KB"])("%s is none", (text) =>
    expect(parseBytes(text)).toBeUndefined(),
  );
});

describe("sizes that are no power of two are taken down to one", () => {
  test.each([
    ["3000", 2048],
    ["1K", 1024],
    ["4095", 2048],
  ])("-b %s", (text, size) => expect(parseOptions({ blockSize: text }).params.block_size).toBe(size));
});

describe("what is refused", () => {
  test.each([
    [{ blockSize: "256" }, /power of 2 between 512 and 4096/],
    [{ blockSize: "8K" }, /power of 2 between 512 and 4096/],
    [{ clusterSize: "2K" }, /between 4096 and 1048576/],
    [{ clusterSize: "2M" }, /between 4096 and 1048576/],
    [{ nodeSlots: "0" }, /between 1 and 255/],
    [{ nodeSlots: "256" }, /between 1 and 255/],
    [{ nodeSlots: "two" }, /between 1 and 255/],
    [{ label: "x".repeat(64) }, /less than 64 bytes/],
    [{ label: "ü".repeat(32) }, /less than 64 bytes/],
    [{ mount: "remote" }, /local and cluster/],
    [{ type: "db" }, /mail, datafiles, vmstore/],
    [{ journalOptions: "size=1M" }, /at least 4194304/],
    [{ journalOptions: "size" }, /bad journal option "size"/],
    [{ journalOptions: "block64=1" }, /bad journal option/],
    [{ journalOptions: "device=x" }, /bad journal option/],
    [{ uuid: "123" }, /32 hexadecimal digits/],
    [{ uuid: "2a4d1c58-1faa-42a1-a41d26efc90c1315-" }, /32 hexadecimal digits/],
    [{ fsFeatures: "sparse,teleport" }, /unknown feature "teleport"/],
    [{ fsFeatures: "heartbeat-device" }, /unknown feature/],
    [{ fsFeatures: "xattr,noxattr" }, /xattr and against it/],
    [{ fsFeatures: "unwritten,nosparse" }, /against it/],
    [{ fsFeatureLevel: "most" }, /feature level "most"/],
    [{ clusterStack: "o2cb" }, /cluster name is missing/],
    [{ clusterName: "a" }, /cluster stack is missing/],
    [{ globalHeartbeat: true }, /cluster stack is missing/],
    [{ clusterStack: "dlm", clusterName: "a" }, /unknown cluster stack/],
    [{ clusterStack: "o2cb", clusterName: "a-b" }, /alpha-numeric/],
    [{ clusterStack: "pcmk", clusterName: "seventeen-letters" }, /at most 16/],
    [{ clusterStack: "pcmk", clusterName: "a", globalHeartbeat: true }, /o2cb cluster stack only/],
    [{ clusterStack: "o2cb", clusterName: "a", mount: "local" }, /local volume has no cluster/],
  ])("%j", (raw, message) => expect(() => parseOptions(raw)).toThrow(message));

  test("a block count that is no number", () => expect(() => parseOptions({}, "12x")).toThrow(/block count 12x/));
  test("what is refused is told in one line", () => {
    for (const raw of [{ blockSize: "1" }, { fsFeatures: "teleport" }, { journalOptions: "x" }]) {
      expect(() => parseOptions(raw)).toThrow(/^[^\n]+$/);
    }
  });
});

describe("features", () => {
  test("a feature that another needs comes with it, and takes it along", () => {
    const set = chooseFeatures("max-compat", "unwritten");
    expect(set.incompat & FEATURE_INCOMPAT.SPARSE_ALLOC).not.toBe(0);
    expect(chooseFeatures("default", "nosparse").ro_compat & FEATURE_RO_COMPAT.UNWRITTEN).toBe(0);
  });
  test("names stand in the order of the classic tools", () => {
    expect(featureText(chooseFeatures("max-features", ""))).toBe(
      "sparse extended-slotmap backup-super unwritten inline-data strict-journal-super metaecc xattr indexed-dirs usrquota grpquota refcount discontig-bg append-dio",
    );
  });
  test("-M wins over the local feature", () => {
    expect(parseOptions({ mount: "cluster", fsFeatures: "local" }).params.local).toBe(false);
    expect(parseOptions({ fsFeatures: "local" }).params.local).toBe(true);
    expect(parseOptions({ mount: "LOCAL" }).params.local).toBe(true);
  });
});

test("a uuid with dashes is that without", () => {
  const plain = parseUuid("2A4D1C581FAA42A1A41D26EFC90C1315");
  expect(parseUuid("2a4d1c58-1faa-42a1-a41d-26efc90c1315")).toEqual(plain);
  expect([...plain.subarray(0, 4)]).toEqual([0x2a, 0x4d, 0x1c, 0x58]);
});

describe("volumes that cannot be", () => {
  const on = (size_bytes: number, raw: object, blocks?: string, sector_bytes = 512) =>
    figureGeometry(parseOptions(raw, blocks).params, { name: "disk", size_bytes, sector_bytes });
  test.each<[string, () => unknown, RegExp]>([
    ["too small for a journal", () => on(MIB / 2, {}), /too small for a journal/],
    ["more blocks than there are", () => on(GIB, { blockSize: "4K" }, "300000"), /has only 262144/],
    ["blocks below the sector", () => on(GIB, { blockSize: "1K" }, undefined, 4096), /sectors of 4096/],
    ["journals that fill it", () => on(100 * MIB, { journalOptions: "size=60M", nodeSlots: "2" }), /do not fit/],
    [
      "journals below the cluster's need",
      () => on(GIB, { journalOptions: "size=4M", clusterSize: "1M" }),
      /at least 9437184/,
    ],
    ["journals of 4 GiB", () => on(64 * GIB, { journalOptions: "size=4G", nodeSlots: "1" }), /below 4G/],
    ["a journal that cannot name the blocks", () => on(17 * 1024 * GIB, {}), /-J block64/],
    ["datafiles on a small one", () => on(GIB, { type: "datafiles" }), /2 gigabytes/],
  ])("%s", (_, make, message) => expect(make).toThrow(message));

  test("a small device with sectors of 4 KiB gets blocks of 4 KiB", () => {
    expect(on(300 * MIB, {}, undefined, 4096).block_size).toBe(4096);
  });
  test("the part of a cluster at the end is left out", () => {
    expect(on(GIB + 5000, { clusterSize: "64K" }).volume_bytes).toBe(GIB);
  });
});
