import { mlogSink } from "../../src/lib/masklog.ts";

/** What the log gets while `run` runs. */
export function logged(run: () => void): string[] {
  const lines: string[] = [];
  mlogSink((line) => lines.push(line));
  try {
    run();
  } finally {
    mlogSink((line) => void process.stderr.write(`${line}\n`));
  }
  return lines;
}
