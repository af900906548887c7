import { expect, test } from "vitest";
import { hostNodeOf } from "./node_socket.ts";

test.each<[string[], string, string]>([
  [["alpha", "beta"], "alpha", "alpha"],
  [["alpha", "beta"], "beta.example.org", "beta"],
  [["Alpha"], "alpha", "Alpha"],
  [["beta", "beta.example.org"], "beta.example.org", "beta.example.org"],
  [["beta.example"], "beta.example.org", "beta.example"],
  [["bet", "alpha", ""], "beta.example.org", "beta.example.org"],
  [["beta.example.org"], "beta", "beta"],
])("of %s this machine's on host %s is %s", (names, host, node) => {
  expect(hostNodeOf(names, host)).toBe(node);
});
