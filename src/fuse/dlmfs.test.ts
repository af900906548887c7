import { expect, test } from "vitest";
import { World } from "../../test/support/dlm_clients.ts";
import { Errno } from "../lib/errno.ts";
import { Dlmfs } from "./dlmfs.ts";
import type { TreeAnswer, TreeAsk } from "./tree_server.ts";

const RDONLY = 0;
const RDWR = 2;
const APPEND = 0o2000;
const NONBLOCK = 0o4000;
const POLLIN = 0x1;
const POLLRDNORM = 0x40;

/** Two nodes with the domain "space" as a folder each, over a simulated network. */
function two(): {
  ask: (node: number, a: TreeAsk) => TreeAnswer;
  later: (node: number, a: TreeAsk) => () => number | undefined;
  run: (what: () => number | undefined) => number | undefined;
  close: (node: number) => boolean;
} {
  const world = new World({ seed: 5 });
  for (const n of [1, 2]) world.add(n);
  world.joinAll();
  const trees = world.alive.map((m) => new Dlmfs((_name, done) => done(0, m.domain!)));
  const later = (node: number, a: TreeAsk): (() => number | undefined) => {
    let err: number | undefined;
    trees[node]!.ask(a, (answer) => (err = answer.err));
    return () => err;
  };
  const ask = (node: number, a: TreeAsk): TreeAnswer => {
    let answer: TreeAnswer | undefined;
    trees[node]!.ask(a, (x) => (answer = x));
    for (let i = 0; answer === undefined && i < 100_000; i++) world.cluster.clock.step();
    return answer!;
  };
  for (const node of [0, 1]) {
    expect(ask(node, { what: "mkdir", path: ["space"] }).err).toBe(0);
    expect(ask(node, { what: "create", path: ["space", "lock"] }).err).toBe(0);
  }
  const run = (what: () => number | undefined): number | undefined => {
    for (let i = 0; what() === undefined && i < 100_000; i++) world.cluster.clock.step();
    return what();
  };
  const close = (node: number): boolean => {
    let closed = false;
    trees[node]!.close(() => (closed = true));
    for (let i = 0; !closed && i < 100_000; i++) world.cluster.clock.step();
    return closed;
  };
  return { ask, later, run, close };
}

const LOCK = ["space", "lock"];

test("an open file holds its lock, and its bytes go to the next one", () => {
  const { ask, later, run } = two();
  expect(ask(0, { what: "open", path: LOCK, flags: RDWR }).err).toBe(0);
  expect(ask(0, { what: "write", path: LOCK, text: "\xff hello", offset: 0 })).toEqual({ err: 0, size: 7 });
  expect(ask(1, { what: "open", path: LOCK, flags: RDONLY | NONBLOCK }).err).toBe(-Errno.ETXTBSY);
  const waits = later(1, { what: "open", path: LOCK, flags: RDONLY });
  expect(waits()).toBeUndefined();
  ask(0, { what: "close", path: LOCK, flags: RDWR });
  expect(run(waits)).toBe(0);
  expect(ask(0, { what: "open", path: LOCK, flags: RDONLY }).err).toBe(0);
  expect(ask(1, { what: "read", path: LOCK }).text).toBe(`\xff hello${"\0".repeat(57)}`);
});

test("what is written goes to the front, and never beyond the 64 bytes", () => {
  const { ask } = two();
  ask(0, { what: "open", path: LOCK, flags: RDWR });
  ask(0, { what: "write", path: LOCK, text: "abcdef", offset: 0 });
  expect(ask(0, { what: "write", path: LOCK, text: "xy", offset: 3 })).toEqual({ err: 0, size: 2 });
  expect(ask(0, { what: "read", path: LOCK }).text!.slice(0, 6)).toBe("xycdef");
  expect(ask(0, { what: "write", path: LOCK, text: "z".repeat(100), offset: 60 }).size).toBe(4);
  expect(ask(0, { what: "write", path: LOCK, text: "z", offset: 64 }).err).toBe(-Errno.ENOSPC);
  // As the kernel sends what is appended to a file of 64 bytes.
  const appended = ask(0, { what: "write", path: LOCK, text: "end", offset: 64, flags: RDWR | APPEND });
  expect(appended).toEqual({ err: 0, size: 3 });
  expect(ask(0, { what: "read", path: LOCK }).text!.slice(0, 4)).toBe("endz");
});

test("a holder hears that another node wants its lock, and not before", () => {
  const { ask, later, run } = two();
  const polled = (): number => ask(0, { what: "poll", path: LOCK }).size!;
  ask(0, { what: "open", path: LOCK, flags: RDWR });
  const wanted = later(0, { what: "await", path: LOCK });
  expect(polled()).toBe(0);
  expect(wanted()).toBeUndefined();
  const waits = later(1, { what: "open", path: LOCK, flags: RDONLY });
  expect(run(wanted)).toBe(0);
  expect(polled()).toBe(POLLIN | POLLRDNORM);
  expect(later(0, { what: "await", path: LOCK })()).toBe(0);
  ask(0, { what: "close", path: LOCK, flags: RDWR });
  expect(run(waits)).toBe(0);
  expect(polled()).toBe(0);
  // A lock that goes is waited for in vain.
  const gone = later(0, { what: "await", path: LOCK });
  ask(0, { what: "unlink", path: LOCK });
  expect(gone()).toBe(-Errno.ENOENT);
});

test("the kernel's errnos", () => {
  const { ask } = two();
  const err = (what: TreeAsk["what"], ...path: string[]): number => ask(0, { what, path }).err;
  expect(err("mkdir", "space")).toBe(-Errno.EEXIST);
  expect(err("mkdir", "s".repeat(64))).toBe(-Errno.EINVAL);
  expect(err("mkdir", "space", "x")).toBe(-Errno.EPERM);
  expect(err("create", "x")).toBe(-Errno.EPERM);
  expect(err("create", "space", "l".repeat(32))).toBe(-Errno.EINVAL);
  expect(err("create", "space", "$x")).toBe(-Errno.EINVAL);
  expect(err("create", "space", "lock")).toBe(-Errno.EEXIST);
  expect(err("create", "other", "lock")).toBe(-Errno.ENOENT);
  expect(err("rmdir", "space")).toBe(-Errno.ENOTEMPTY);
  ask(0, { what: "open", path: LOCK, flags: RDONLY });
  expect(err("unlink", "space", "lock")).toBe(-Errno.EBUSY);
  ask(0, { what: "close", path: LOCK, flags: RDONLY });
  expect(err("unlink", "space", "lock")).toBe(0);
  expect(err("stat", "space", "lock")).toBe(-Errno.ENOENT);
  expect(err("rmdir", "space")).toBe(0);
  expect(ask(0, { what: "list", path: [] }).names).toEqual([]);
});

test("a node that goes leaves its locks to the others, whoever has files open", () => {
  const { ask, later, run, close } = two();
  ask(0, { what: "open", path: LOCK, flags: RDWR });
  const waits = later(1, { what: "open", path: LOCK, flags: RDWR });
  expect(close(0)).toBe(true);
  expect(run(waits)).toBe(0);
  expect(ask(0, { what: "close", path: LOCK, flags: RDWR }).err).toBe(-Errno.ENOENT);
});
