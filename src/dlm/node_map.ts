/** Sets of node numbers, one bit each, lowest bit first: as the kernel's bitmaps, and as they stand in messages. */
import { type NodeNum, O2NM_MAX_NODES } from "../cluster/node.ts";

const BYTES = (O2NM_MAX_NODES + 7) >> 3;

export class NodeMap {
  readonly bytes = new Uint8Array(BYTES);

  static of(nodes: Iterable<NodeNum>): NodeMap {
    const map = new NodeMap();
    for (const n of nodes) map.set(n);
    return map;
  }

  has(n: NodeNum): boolean {
    return n < O2NM_MAX_NODES && (this.bytes[n >> 3]! & (1 << (n & 7))) !== 0;
  }

  set(n: NodeNum): void {
    if (n < O2NM_MAX_NODES) this.bytes[n >> 3]! |= 1 << (n & 7);
  }

  clear(n: NodeNum): void {
    if (n < O2NM_MAX_NODES) this.bytes[n >> 3]! &= ~(1 << (n & 7));
  }

  /** The first node from `from` on, or O2NM_MAX_NODES. */
  next(from: number): NodeNum {
    for (let n = from; n < O2NM_MAX_NODES; n++) {
      if (this.bytes[n >> 3] === 0) n |= 7;
      else if (this.has(n)) return n;
    }
    return O2NM_MAX_NODES;
  }

  get first(): NodeNum {
    return this.next(0);
  }

  get empty(): boolean {
    return this.first === O2NM_MAX_NODES;
  }

  *[Symbol.iterator](): Generator<NodeNum> {
    for (let n = this.first; n < O2NM_MAX_NODES; n = this.next(n + 1)) yield n;
  }

  equals(other: NodeMap): boolean {
    return this.bytes.every((b, i) => b === other.bytes[i]);
  }

  copyFrom(other: NodeMap): void {
    this.bytes.set(other.bytes);
  }

  copy(): NodeMap {
    const map = new NodeMap();
    map.copyFrom(this);
    return map;
  }

  zero(): void {
    this.bytes.fill(0);
  }

  toString(): string {
    return [...this].join(" ");
  }
}
