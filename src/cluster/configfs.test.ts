/** The tree as a script drives it: mkdir, rmdir, cat and echo, with the kernel's errnos. */
import { describe, expect, test } from "vitest";
import { Errno } from "../lib/errno.ts";
import { SimClock } from "../lib/sim_clock.ts";
import { type Attribute, type ConfigfsHooks, ConfigTree, type Folder, strtoul } from "./configfs.ts";
import { Heartbeat } from "./heartbeat.ts";
import { NodeManager } from "./nodemanager.ts";

class Shell {
  readonly calls: string[] = [];
  nodes: NodeManager | undefined;
  hb: Heartbeat | undefined;
  pinned = false;
  connected = new Set<number>();
  readonly tree: ConfigTree;

  constructor() {
    const hooks: ConfigfsHooks = {
      makeCluster: (name) => {
        this.nodes = new NodeManager(name);
        this.hb = new Heartbeat(this.nodes, new SimClock());
        return { nodes: this.nodes, hb: this.hb };
      },
      dropCluster: () => this.calls.push("drop"),
      startListening: (done) => {
        this.calls.push("listen");
        done(0);
      },
      stopListening: () => this.calls.push("deaf"),
      startRegion: (r, done) => {
        this.calls.push(`start ${r.name} ${r.path} ${r.start_block} ${r.blocks} ${r.block_bytes}`);
        this.hb!.addRegion(r.name);
        done(0);
      },
      stopRegion: (name, done) => {
        this.calls.push(`stop ${name}`);
        this.hb!.remove(this.hb!.region(name)!);
        done();
      },
      isRegionPinned: () => this.pinned,
      deviceOf: () => "/dev/elsewhere",
      isConnected: (num) => this.connected.has(num),
      setLog: (name, state) => this.calls.push(`log ${name} ${state}`),
      pathOfFd: (pid, fd) => (pid === 42 && fd === 3 ? "/dev/sdb1" : undefined),
    };
    this.tree = new ConfigTree(hooks);
  }

  #parts(path: string): string[] {
    return path.split("/").filter((p) => p !== "");
  }

  dir(path: string): Folder {
    const entry = this.tree.resolve(this.#parts(path));
    if (entry === undefined || !("dir" in entry)) throw new Error(`${path} is no folder`);
    return entry.dir;
  }

  file(path: string): Attribute {
    const entry = this.tree.resolve(this.#parts(path));
    if (entry === undefined || !("file" in entry)) throw new Error(`${path} is no file`);
    return entry.file;
  }

  ls(path: string): string[] {
    return this.dir(path).names();
  }

  mkdir(path: string): number {
    const at = path.lastIndexOf("/");
    return this.dir(path.slice(0, at)).mkdir?.(path.slice(at + 1)) ?? -Errno.EPERM;
  }

  rmdir(path: string): number {
    const at = path.lastIndexOf("/");
    let late: number | undefined;
    const now = this.dir(path.slice(0, at)).rmdir?.(path.slice(at + 1), (err) => (late = err));
    return now ?? late ?? -Errno.EPERM;
  }

  cat(path: string): string {
    return this.file(path).show();
  }

  echo(text: string, path: string): number {
    let late: number | undefined;
    return this.file(path).store?.(`${text}\n`, 42, (err) => (late = err)) ?? late ?? Number.NaN;
  }
}

/** A cluster with nodes a (1, this one) and b (2). */
function registered(): Shell {
  const sh = new Shell();
  sh.mkdir("/cluster/web");
  for (const [name, num] of [
    ["a", 1],
    ["b", 2],
  ]) {
    const at = `/cluster/web/node/${name}`;
    sh.mkdir(at);
    sh.echo("7777", `${at}/ipv4_port`);
    sh.echo(`10.0.0.${num}`, `${at}/ipv4_address`);
    expect(sh.echo(`${num}`, `${at}/num`)).toBe(0);
  }
  expect(sh.echo("1", "/cluster/web/node/a/local")).toBe(0);
  return sh;
}

test("a cluster is registered as o2cb does it", () => {
  const sh = registered();
  expect(sh.ls("/")).toEqual(["cluster", "logmask"]);
  expect(sh.ls("/cluster/web")).toEqual([
    ...["idle_timeout_ms", "keepalive_delay_ms", "reconnect_delay_ms", "fence_method", "node", "heartbeat"],
  ]);
  expect(sh.ls("/cluster/web/node/b")).toEqual(["num", "ipv4_port", "ipv4_address", "local"]);
  expect(sh.nodes!.nodes().map((n) => [n.name, n.num, n.ipv4_address])).toEqual([
    ["a", 1, "10.0.0.1"],
    ["b", 2, "10.0.0.2"],
  ]);
  expect([sh.nodes!.this_node, sh.calls]).toEqual([1, ["listen"]]);
  expect(["num", "ipv4_port", "ipv4_address", "local"].map((f) => sh.cat(`/cluster/web/node/a/${f}`))).toEqual([
    "1\n",
    "7777\n",
    "10.0.0.1\n",
    "1\n",
  ]);
});

test("and taken down again, from the inside out", () => {
  const sh = registered();
  expect(sh.rmdir("/cluster/web")).toBe(-Errno.ENOTEMPTY);
  sh.connected.add(2);
  expect(sh.rmdir("/cluster/web/node/b")).toBe(-Errno.EBUSY);
  sh.connected.clear();
  expect(sh.rmdir("/cluster/web/node/b")).toBe(0);
  expect(sh.rmdir("/cluster/web/node/b")).toBe(-Errno.ENOENT);
  expect(sh.rmdir("/cluster/web/node/a")).toBe(0);
  expect(sh.rmdir("/cluster/web")).toBe(0);
  expect(sh.calls).toEqual(["listen", "deaf", "drop"]);
  expect(sh.ls("/cluster")).toEqual([]);
  expect(sh.mkdir("/cluster/other")).toBe(0);
});

describe("the kernel's errnos", () => {
  const NODE = "/cluster/web/node/c";

  test("one cluster at a time; nothing is made where the kernel makes it", () => {
    const sh = registered();
    expect(sh.mkdir("/cluster/second")).toBe(-Errno.ENOSPC);
    expect(sh.mkdir("/cluster/web")).toBe(-Errno.EEXIST);
    expect(sh.mkdir("/other")).toBe(-Errno.EPERM);
    expect(sh.mkdir("/cluster/web/x")).toBe(-Errno.EPERM);
    expect(sh.rmdir("/cluster/web/node")).toBe(-Errno.EPERM);
    expect(sh.mkdir(`/cluster/web/node/${"n".repeat(65)}`)).toBe(-Errno.ENAMETOOLONG);
    expect(sh.mkdir("/cluster/web/node/a")).toBe(-Errno.EEXIST);
  });

  test.each<[string, string, number]>([
    ["ipv4_port", "0", -Errno.EINVAL],
    ["ipv4_port", "65535", -Errno.ERANGE],
    ["ipv4_port", "many", -Errno.EINVAL],
    ["ipv4_address", "here", -Errno.EINVAL],
    ["ipv4_address", "10.0.0.256", -Errno.ERANGE],
    ["ipv4_address", "10.0.0.2", -Errno.EEXIST],
    ["num", "3", -Errno.EINVAL],
    ["num", "255", -Errno.ERANGE],
    ["local", "1", -Errno.EINVAL],
  ])("a new node: echo %2$s > %1$s", (file, text, err) => {
    const sh = registered();
    sh.mkdir(NODE);
    expect(sh.echo(text, `${NODE}/${file}`)).toBe(err);
  });

  test("what was told once stays", () => {
    const sh = registered();
    const a = "/cluster/web/node/a";
    expect([
      sh.echo("1", `${a}/ipv4_port`),
      sh.echo("10.0.0.9", `${a}/ipv4_address`),
      sh.echo("9", `${a}/num`),
    ]).toEqual(new Array(3).fill(-Errno.EBUSY));
    expect(sh.echo("2", `${a}/num`)).toBe(-Errno.EEXIST);
    expect(sh.echo("1", "/cluster/web/node/b/local")).toBe(-Errno.EBUSY);
    expect(sh.echo("0", "/cluster/web/node/b/local")).toBe(0);
  });

  test("a node that heartbeats stays the local one: deaf, but alive to the others, it would make them end themselves", () => {
    const sh = registered();
    sh.hb!.addRegion("R");
    expect(sh.echo("0", "/cluster/web/node/a/local")).toBe(-Errno.EBUSY);
    expect([sh.nodes!.this_node, sh.calls.includes("deaf")]).toEqual([1, false]);
    sh.hb!.remove(sh.hb!.region("R")!);
    expect(sh.echo("0", "/cluster/web/node/a/local")).toBe(0);
    expect([sh.nodes!.this_node, sh.calls.at(-1)]).toEqual([undefined, "deaf"]);
  });

  test("time-outs, the fence method, the threshold, the mode", () => {
    const sh = registered();
    const web = "/cluster/web";
    expect(sh.echo("2000", `${web}/idle_timeout_ms`)).toBe(-Errno.EINVAL);
    expect(sh.echo("0x2710", `${web}/idle_timeout_ms`)).toBe(0);
    expect(sh.cat(`${web}/idle_timeout_ms`)).toBe("10000\n");
    expect(sh.echo("10000", `${web}/keepalive_delay_ms`)).toBe(-Errno.EINVAL);
    expect(sh.echo("0", `${web}/reconnect_delay_ms`)).toBe(-Errno.EINVAL);
    expect([sh.cat(`${web}/fence_method`), sh.echo("Reset", `${web}/fence_method`)]).toEqual(["exit\n", 0]);
    expect([sh.cat(`${web}/fence_method`), sh.echo("res", `${web}/fence_method`)]).toEqual(["reset\n", -Errno.EINVAL]);
    expect([sh.echo("2", `${web}/heartbeat/dead_threshold`), sh.cat(`${web}/heartbeat/dead_threshold`)]).toEqual([
      0,
      "31\n",
    ]);
    expect([sh.echo("7", `${web}/heartbeat/dead_threshold`), sh.cat(`${web}/heartbeat/dead_threshold`)]).toEqual([
      0,
      "7\n",
    ]);
    expect([sh.echo("global", `${web}/heartbeat/mode`), sh.cat(`${web}/heartbeat/mode`)]).toEqual([0, "global\n"]);
    expect(sh.echo("regional", `${web}/heartbeat/mode`)).toBe(-Errno.EINVAL);
  });

  test("log masks are switched by their names", () => {
    const sh = registered();
    expect([sh.cat("/logmask/ERROR"), sh.cat("/logmask/DLM_MASTER")]).toEqual(["allow\n", "off\n"]);
    expect([sh.echo("allow", "/logmask/DLM_MASTER"), sh.echo("deny", "/logmask/ERROR")]).toEqual([0, 0]);
    expect(sh.calls.slice(-2)).toEqual(["log DLM_MASTER allow", "log ERROR off"]);
    expect(sh.echo("on", "/logmask/ERROR")).toBe(-Errno.EINVAL);
  });

  test("numbers are the kernel's simple_strtoul", () => {
    expect(["12", "12\n", "0x1f", "010", "", "\n", "-1", "1 ", "12\n\n", "0x"].map(strtoul)).toEqual([
      ...[12, 12, 31, 8, 0, 0, undefined, undefined, undefined, undefined],
    ]);
  });
});

describe("heartbeat regions", () => {
  const R = "/cluster/web/heartbeat/0AD1B7A93F2A4B8196090CA8716C204B";

  test("are described, started by a file descriptor, and end with their folder", () => {
    const sh = registered();
    expect(sh.mkdir(R)).toBe(0);
    expect(sh.ls(R)).toEqual(["block_bytes", "start_block", "blocks", "dev", "pid"]);
    expect(sh.echo("3", `${R}/dev`)).toBe(-Errno.EINVAL);
    expect([
      sh.echo("512", `${R}/block_bytes`),
      sh.echo("2816", `${R}/start_block`),
      sh.echo("255", `${R}/blocks`),
    ]).toEqual([0, 0, 0]);
    expect(sh.echo("9", `${R}/dev`)).toBe(-Errno.EINVAL);
    expect([sh.cat(`${R}/dev`), sh.cat(`${R}/pid`)]).toEqual(["", ""]);
    expect(sh.echo("3", `${R}/dev`)).toBe(0);
    expect(sh.calls.at(-1)).toBe("start 0AD1B7A93F2A4B8196090CA8716C204B /dev/sdb1 2816 255 512");
    expect([sh.cat(`${R}/dev`), sh.cat(`${R}/pid`)]).toEqual(["sdb1\n", `${process.pid}\n`]);
    expect([sh.echo("3", `${R}/dev`), sh.echo("1", `${R}/blocks`)]).toEqual([-Errno.EINVAL, -Errno.EINVAL]);
    expect(sh.rmdir("/cluster/web/node/a")).toBe(-Errno.EBUSY);
    expect(sh.echo("global", "/cluster/web/heartbeat/mode")).toBe(0);
    expect(sh.cat("/cluster/web/heartbeat/mode")).toBe("local\n");
    sh.pinned = true;
    expect(sh.rmdir(R)).toBe(-Errno.EBUSY);
    sh.pinned = false;
    expect(sh.rmdir(R)).toBe(0);
    expect(sh.calls.at(-1)).toBe("stop 0AD1B7A93F2A4B8196090CA8716C204B");
  });

  test.each<[string, string, number]>([
    ["block_bytes", "256", -Errno.ERANGE],
    ["block_bytes", "8192", -Errno.ERANGE],
    ["block_bytes", "1000", -Errno.EINVAL],
    ["blocks", "0", -Errno.ERANGE],
    ["blocks", "256", -Errno.ERANGE],
    ["start_block", "-1", -Errno.EINVAL],
  ])("echo %2$s > %1$s", (file, text, err) => {
    const sh = registered();
    sh.mkdir(R);
    expect(sh.echo(text, `${R}/${file}`)).toBe(err);
  });

  test("32 of global heartbeat, and any number of local", () => {
    const sh = registered();
    const mkdir = (i: number): number => sh.mkdir(`cluster/web/heartbeat/R${i}`);
    sh.echo("global", "cluster/web/heartbeat/mode");
    for (let i = 0; i < 32; i++) expect(mkdir(i)).toBe(0);
    expect(mkdir(32)).toBe(-Errno.EFBIG);
    for (let i = 0; i < 32; i++) expect(sh.rmdir(`cluster/web/heartbeat/R${i}`)).toBe(0);
    sh.echo("local", "cluster/web/heartbeat/mode");
    for (let i = 0; i < 33; i++) expect(mkdir(i)).toBe(0);
  });

  test("one that a mount started shows up, with its device", () => {
    const sh = registered();
    sh.hb!.addRegion("AA");
    expect(sh.ls("/cluster/web/heartbeat")).toEqual(["dead_threshold", "mode", "AA"]);
    expect(sh.cat("/cluster/web/heartbeat/AA/dev")).toBe("elsewhere\n");
    expect(sh.echo("1", "/cluster/web/heartbeat/AA/blocks")).toBe(-Errno.EINVAL);
  });
});
