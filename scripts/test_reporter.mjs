/** A vitest reporter that leaves the counts of a run in the file $OCFS2_TEST_COUNTS, for scripts/test.mjs. */
import { writeFileSync } from "node:fs";

export default class CountsReporter {
  onTestRunEnd(modules, unhandled_errors) {
    const counts = { passed: 0, failed: unhandled_errors.length, skipped: 0 };
    for (const module of modules) {
      counts.failed += module.errors().length;
      for (const suite of module.children.allSuites()) counts.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "passed") counts.passed++;
        else if (state === "skipped") counts.skipped++;
        else counts.failed++;
      }
    }
    const path = process.env.OCFS2_TEST_COUNTS;
    if (path) writeFileSync(path, JSON.stringify(counts));
  }
}
