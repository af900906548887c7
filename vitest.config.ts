import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    setupFiles: ["test/support/setup.ts"],
    // A process a file: shared memories are given back, and a test that dies takes nothing with it.
    pool: "forks",
    maxWorkers: Math.max(2, availableParallelism()),
    // A limit for what hangs, not a measure: many files share two cores, and some start machines.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
  },
});
