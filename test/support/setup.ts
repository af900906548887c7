/** Runs around each test file: what the file left to be undone is undone when its tests are over. */
import { afterAll } from "vitest";
import { runAll } from "./cleanup.ts";

afterAll(runAll);
