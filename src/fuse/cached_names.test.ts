import { describe, expect, test } from "vitest";
import { CachedNames } from "./cached_names.ts";
import { ASK_AGAIN, HELD } from "./reply.ts";

const COOL_MS = 2000;
const [DIR, OTHER, BELOW] = [100, 200, 300];

function make(): { names: CachedNames; pass: (ms: number) => void; lost: (ino: number) => boolean } {
  let now = 1000;
  const names = new CachedNames(() => now, COOL_MS);
  return {
    names,
    pass: (ms) => {
      now += ms;
    },
    lost: (ino) => names.lost(ino),
  };
}

describe("names that the kernel keeps", () => {
  test("are called back when their folder goes, once, and all of them", () => {
    const { names, lost } = make();
    expect(lost(DIR)).toBe(false);
    expect(lost(OTHER)).toBe(false);
    names.told(BELOW);
    expect(names.timeouts(BELOW)).toBe(HELD);
    expect(lost(DIR)).toBe(false);
    expect(lost(BELOW)).toBe(true);
    expect(lost(BELOW)).toBe(false);
  });

  test("of a second folder went with the first one's: there is nothing to call back", () => {
    const { names, lost } = make();
    names.told(DIR);
    names.told(OTHER);
    expect(lost(DIR)).toBe(true);
    expect(lost(OTHER)).toBe(false);
    names.told(OTHER);
    expect(names.timeouts(OTHER)).toBe(ASK_AGAIN);
  });

  test("are not given for a while in a folder that was lost, and then again", () => {
    const { names, lost, pass } = make();
    names.told(DIR);
    expect(lost(DIR)).toBe(true);
    pass(COOL_MS - 1);
    names.told(DIR);
    expect(names.timeouts(DIR)).toBe(ASK_AGAIN);
    expect(lost(DIR)).toBe(false);
    pass(COOL_MS);
    names.told(DIR);
    expect(names.timeouts(DIR)).toBe(HELD);
    expect(lost(DIR)).toBe(true);
  });

  test("an answer that comes after the folder went gives nothing to keep", () => {
    const { names, lost, pass } = make();
    names.told(DIR);
    expect(lost(DIR)).toBe(true);
    pass(COOL_MS);
    expect(names.timeouts(DIR)).toBe(ASK_AGAIN);
  });

  test("a name that was moved into a folder is called back with that folder", () => {
    const { names, lost, pass } = make();
    names.told(DIR);
    names.moved(DIR, OTHER);
    expect(lost(OTHER)).toBe(true);
    pass(COOL_MS);
    // The kernel was given nothing that it could keep in either.
    names.moved(DIR, OTHER);
    expect(lost(OTHER)).toBe(false);
  });

  test("a folder first heard of in one that was lost waits as long, and no longer", () => {
    const { names, lost, pass } = make();
    names.told(DIR);
    lost(DIR);
    pass(COOL_MS - 10);
    names.heard(BELOW, DIR);
    names.told(BELOW);
    expect(names.timeouts(BELOW)).toBe(ASK_AGAIN);
    pass(10);
    names.told(BELOW);
    expect(names.timeouts(BELOW)).toBe(HELD);
  });

  test("of a folder that the kernel has forgotten are none; that it was lost counts on", () => {
    const { names, lost } = make();
    names.told(DIR);
    names.forgotten(DIR);
    expect(lost(DIR)).toBe(false);
    names.forgotten(DIR);
    names.told(DIR);
    expect(names.timeouts(DIR)).toBe(ASK_AGAIN);
  });
});
