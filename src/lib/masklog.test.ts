/** The debug log: sets of messages that are off until somebody wants them. */
import { readdirSync, readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { ML, type MlMask, mlog, mlogOn, mlogSet, mlogSink, mlogStates } from "./masklog.ts";

afterEach(() => {
  for (const [name] of mlogStates()) mlogSet(name, name === "ERROR" || name === "NOTICE" ? "allow" : "off");
  mlogSink((line) => void process.stderr.write(`${line}\n`));
});

test("each mask has something to say: what can be switched on is written somewhere", () => {
  const folder = new URL("../", import.meta.url).pathname;
  const sources = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
    .map((path) => readFileSync(folder + path, "utf8"))
    .join("\n");
  const silent = Object.keys(ML).filter((name) => !new RegExp(`\\bmlog\\(\\s*ML\\.${name}\\b`).test(sources));
  expect(silent).toEqual([]);
});

test("a mask is switched on and off at run time, by its name in any case", () => {
  const lines: string[] = [];
  mlogSink((line) => lines.push(line));
  mlog(ML.DLM, "not heard");
  expect(mlogSet("dlm", "allow")).toBe(true);
  mlog(ML.DLM, "a message", 7);
  mlog(ML.DLM_GLUE, "of another mask");
  expect(mlogSet("DLM", "off")).toBe(true);
  mlog(ML.DLM, "not heard");
  expect(mlogSet("VOTE", "allow")).toBe(false);
  expect(lines).toEqual(["ocfs2: DLM: a message 7"]);
});

test("a mask that is off costs a bit test: millions of messages that nobody wants take no time", () => {
  const masks = Object.values(ML).filter((mask) => !mlogOn(mask)) as MlMask[];
  const since_ms = performance.now();
  let wanted = 0;
  for (let i = 0; i < 3_000_000; i++) if (mlogOn(masks[i % masks.length]!)) wanted++;
  // Some ten milliseconds; a hundred times that where a machine is very busy.
  expect(performance.now() - since_ms).toBeLessThan(1000);
  expect(wanted).toBe(0);
});
