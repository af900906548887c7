/** Those who wait for something inside a domain. A wake-up runs none of them at once: it hands them to the domain's queue. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  add(cb: () => void): () => void {
    this.#waiting.add(cb);
    return () => this.#waiting.delete(cb);
  }

  get length(): number {
    return this.#waiting.size;
  }

  take(): (() => void)[] {
    const all = [...this.#waiting];
    this.#waiting.clear();
    return all;
  }
}
