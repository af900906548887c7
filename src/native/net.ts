/** The addon's network (native/src/net.rs): the main thread's connections, and the lanes of threads that use them. */
import { type ArenaHandle, loaded } from "./index.ts";

export interface NetEvent {
  readonly kind: number;
  readonly id: number;
  readonly value: number;
  readonly address: string;
  readonly port: number;
}

interface NetAddon {
  netStart(on_event: () => void): number;
  netStop(hub: number): void;
  netRef(hub: number, on: boolean): void;
  netEvent(hub: number): NetEvent | null;
  netListen(hub: number, address: string, port: number): number;
  netConnect(hub: number, local_address: string, address: string, port: number): number;
  netTake(hub: number, conn: number): Uint8Array;
  netWrite(hub: number, conn: number, bytes: Uint8Array): number;
  netPause(hub: number, conn: number, on: boolean): void;
  netSilentMs(hub: number, conn: number): number;
  netClose(hub: number, number: number): void;

  laneOpen(hub: number, wakefd: number): number;
  laneClose(hub: number, lane: number): void;
  laneDivert(hub: number, lane: number, key: number, on: boolean): void;
  laneFd(hub: number, conn: number): number;
  laneReading(hub: number, lane: number): number;
  laneRead(hub: number, lane: number, conn: number): number;
  laneTake(hub: number, lane: number, arena: ArenaHandle, addr: number, len: number): number;
  laneSend(hub: number, conn: number, arena: ArenaHandle, addr: number, len: number): number;
}

export const net = loaded as NetAddon;

/** Kinds of events. */
export const NET = { ACCEPTED: 0, CONNECTED: 1, DATA: 2, DRAINED: 3, CLOSED: 4 } as const;
