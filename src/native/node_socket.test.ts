import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { tempDir } from "../../test/support/cleanup.ts";
import { connectLines, type LineSocket, overLines } from "./node_socket.ts";

let server: Server;
let other: Socket;
let line: LineSocket;
let mine: { heard: unknown[]; ended: number };

beforeEach(async () => {
  const seen = { heard: [] as unknown[], ended: 0 };
  mine = seen;
  const path = join(tempDir("ocfs2-lines"), "s");
  const came = new Promise<Socket>((ok) => (server = createServer(ok)));
  await new Promise<void>((ok) => void server.listen(path, ok));
  await new Promise<void>((ok) => {
    line = connectLines(path, { connected: ok, heard: (m) => void seen.heard.push(m), ended: () => seen.ended++ });
  });
  other = await came;
});

afterEach(() => {
  line.close();
  other.destroy();
  server.close();
});

test("lines come as they were sent, however they are cut", async () => {
  const bytes = Buffer.from('{"a":"ä\\n"}\n{"b":2}\n{"c"');
  for (const byte of bytes) other.write(Buffer.of(byte));
  other.write(":3}\n");
  await expect.poll(() => mine.heard).toEqual([{ a: "ä\n" }, { b: 2 }, { c: 3 }]);
});

test.each(["nonsense", "null", "7"])("%s ends a connection, and not the process", async (what) => {
  other.write(`{"a":1}\n${what}\n{"b":2}\n`);
  await expect.poll(() => mine.ended).toBe(1);
  expect([mine.heard, line.isOpen]).toEqual([[{ a: 1 }], false]);
  await line.drained();
});

test("who answers for them hears of lines that are none, and goes on", async () => {
  const answered: unknown[] = [];
  overLines(other, {
    heard: (m) => void answered.push(m),
    garbled: () => void answered.push("garbled"),
    ended: () => void answered.push("ended"),
  });
  line.send({ a: 1 });
  line.send("text");
  line.end({ b: 2 });
  await expect.poll(() => answered).toEqual([{ a: 1 }, "garbled", { b: 2 }, "ended"]);
});

test("a reader that is slow is waited for", async () => {
  other.pause();
  while (line.send({ text: "x".repeat(1 << 16) }));
  let drained = false;
  void line.drained().then(() => (drained = true));
  await new Promise((ok) => setTimeout(ok, 50));
  expect(drained).toBe(false);
  other.resume();
  await expect.poll(() => drained).toBe(true);
});

test("nobody listens", async () => {
  const gone = await new Promise((ok) =>
    connectLines("/nowhere/s", { connected: () => ok("connected"), heard: ok, ended: () => ok("ended") }),
  );
  expect(gone).toBe("ended");
});
