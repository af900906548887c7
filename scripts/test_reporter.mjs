/**
 * A vitest reporter for scripts/test.mjs: leaves the counts of a run in the file $OCFS2_TEST_COUNTS, and ends a run in which a test
 * turns for ever. Vitest's own time limit needs the test's event loop, which such a test never goes back to.
 */
import { writeFileSync } from "node:fs";

const STUCK_MS = 8 * 60_000;

export default class Reporter {
  /** What runs now: module to the test that began last, and when. */
  #running = new Map();
  #ended = new Set();

  onTestRunStart() {
    setInterval(() => this.#look(), 10_000).unref();
  }

  onTestModuleStart(module) {
    this.#running.set(module, { name: module.moduleId, since: Date.now() });
  }

  onTestCaseReady(test) {
    // News of a module's tests may come after that of its end.
    if (!this.#ended.has(test.module))
      this.#running.set(test.module, { name: `${test.module.moduleId}: ${test.fullName}`, since: Date.now() });
  }

  onTestModuleEnd(module) {
    this.#ended.add(module);
    this.#running.delete(module);
  }

  #look() {
    const stuck = [...this.#running.values()].filter((r) => Date.now() - r.since > STUCK_MS);
    if (stuck.length === 0) return;
    for (const r of stuck) console.error(`stuck for ${STUCK_MS / 60_000} minutes: ${r.name}`);
    process.exit(1);
  }

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
