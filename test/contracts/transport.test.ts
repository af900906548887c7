/** What o2net relies on, of every Transport: TCP on the loopback, and the simulated network. */
import { describe, expect, test } from "vitest";
import { SimNetwork } from "../../src/cluster/sim_transport.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { Connection, Transport } from "../../src/lib/transport.ts";
import { tcpTransport } from "../../src/native/tcp_transport.ts";

/** What happened at one end, and waiting for it. */
class End {
  readonly conn: Connection;
  readonly got: number[] = [];
  connected = false;
  drained = 0;
  closed: string | undefined;
  #changed: () => void = () => {};

  constructor(conn: Connection) {
    this.conn = conn;
    const note = (): void => this.#changed();
    conn.events = {
      connected: () => {
        this.connected = true;
        note();
      },
      data: (bytes) => {
        for (const b of bytes) this.got.push(b);
        note();
      },
      drained: () => {
        this.drained++;
        note();
      },
      closed: (why) => {
        expect(this.closed, "closed twice").toBeUndefined();
        this.closed = why;
        note();
      },
    };
  }

  until(done: () => boolean): Promise<void> {
    return new Promise((ok) => {
      this.#changed = () => {
        if (done()) ok();
      };
      this.#changed();
    });
  }
}

interface Bed {
  readonly transport: Transport;
  readonly port: number;
}

const NET = `127.${1 + (process.pid % 250)}.9`;
let next_port = 20_000 + (process.pid % 20_000);

describe.each<[string, () => Bed]>([
  ["TCP", () => ({ transport: tcpTransport, port: next_port++ })],
  ["the simulated network", () => ({ transport: new SimNetwork(systemClock).transport(), port: 7777 })],
])("%s", (_name, bed) => {
  const listen = async ({ transport, port }: Bed): Promise<{ accepted: Promise<End>; close(): void }> => {
    let take: (end: End) => void = () => {};
    const accepted = new Promise<End>((ok) => (take = ok));
    let listener: { close(): void } | undefined;
    await new Promise<void>((ok, no) => {
      listener = transport.listen(`${NET}.1`, port, {
        ready: ok,
        failed: (why) => no(new Error(why)),
        accepted: (conn) => take(new End(conn)),
      });
    });
    return { accepted, close: () => listener!.close() };
  };

  test("an accepted connection shows the address that it was made from; bytes come whole and in order, both ways", async () => {
    const b = bed();
    const server = await listen(b);
    const a = new End(b.transport.connect(`${NET}.2`, `${NET}.1`, b.port));
    expect(a.connected, "nothing is called back from within connect").toBe(false);
    await a.until(() => a.connected);
    const z = await server.accepted;
    expect(z.conn.remote_address).toBe(`${NET}.2`);
    expect(z.connected).toBe(false);
    const sent = Array.from({ length: 5000 }, (_, i) => i % 251);
    for (let i = 0; i < sent.length; i += 1000) a.conn.write(Uint8Array.from(sent.slice(i, i + 1000)));
    z.conn.write(Uint8Array.of(7, 8));
    await z.until(() => z.got.length === sent.length);
    await a.until(() => a.got.length === 2);
    expect([z.got, a.got]).toEqual([sent, [7, 8]]);
    a.conn.close();
    await Promise.all([a.until(() => a.closed !== undefined), z.until(() => z.closed !== undefined)]);
    expect(a.closed).toBe("");
    server.close();
  });

  test("nobody listens: closed, with the reason", async () => {
    const b = bed();
    const a = new End(b.transport.connect(`${NET}.2`, `${NET}.1`, b.port));
    await a.until(() => a.closed !== undefined);
    expect([a.closed, a.connected]).toEqual(["ECONNREFUSED", false]);
  });

  test("an address that is taken is told", async () => {
    const b = bed();
    const server = await listen(b);
    await expect(listen(b)).rejects.toThrow("EADDRINUSE");
    server.close();
  });

  test("what arrives while it is paused comes when it is resumed", async () => {
    const b = bed();
    const server = await listen(b);
    const a = new End(b.transport.connect(`${NET}.2`, `${NET}.1`, b.port));
    await a.until(() => a.connected);
    const z = await server.accepted;
    z.conn.pause();
    a.conn.write(Uint8Array.of(1, 2, 3));
    z.conn.write(Uint8Array.of(9));
    // The answer's way is as long: what was paused would have come by then.
    await a.until(() => a.got.length === 1);
    const before = z.got.length;
    z.conn.resume();
    await z.until(() => z.got.length === 3);
    expect([before, z.got]).toEqual([0, [1, 2, 3]]);
    a.conn.close();
    server.close();
  });

  test("the end of a turn comes after it, and before anything else", async () => {
    const b = bed();
    const order: string[] = [];
    await new Promise<void>((ok) => {
      b.transport.endOfTurn(() => order.push("end of turn"));
      order.push("turn");
      setTimeout(ok, 20);
    });
    expect(order).toEqual(["turn", "end of turn"]);
  });
});

test("TCP that nobody reads pushes back, and says when it goes on", async () => {
  const port = next_port++;
  let z: End | undefined;
  await new Promise<void>((ok) => {
    const listener = tcpTransport.listen(`${NET}.1`, port, {
      ready: ok,
      failed: (why) => expect(why).toBe(""),
      accepted: (conn) => {
        z = new End(conn);
        conn.pause();
        listener.close();
      },
    });
  });
  const a = new End(tcpTransport.connect(`${NET}.2`, `${NET}.1`, port));
  await a.until(() => a.connected);
  const piece = new Uint8Array(1 << 20);
  let written = 0;
  do written += piece.length;
  while (a.conn.write(piece) && written < 256 << 20);
  expect(written).toBeLessThan(256 << 20);
  while (z === undefined) await new Promise((ok) => setTimeout(ok, 1));
  let got = 0;
  z.conn.events = { ...z.conn.events, data: (bytes) => (got += bytes.length) };
  z.conn.resume();
  await a.until(() => a.drained > 0);
  a.conn.close();
  expect(got).toBeGreaterThan(0);
});
