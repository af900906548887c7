/**
 * A device that becomes smaller under its volume: an image that somebody truncates, a logical volume that is reduced. A write behind the new end of a
 * file would make it as long again as it was, with holes where the volume's blocks have been, and nobody would know until one of these is read.
 */
import { ML, mlog } from "../lib/masklog.ts";
import { fdSize } from "../native/index.ts";

export class DeviceEnd {
  readonly #name: string;
  readonly #fd: number;
  readonly #size_bytes: number;
  #said = false;
  #at_turn = -1;
  #left_bytes: number;

  /** `size_bytes`: as it was opened. */
  constructor(name: string, fd: number, size_bytes: number) {
    this.#name = name;
    this.#fd = fd;
    this.#size_bytes = size_bytes;
    this.#left_bytes = size_bytes;
  }

  /** A part of the range was there when the device was opened, and is no more. One look is enough for what is asked in one `turn`: it costs more than a submit. */
  isLost(offset: number, len_bytes: number, turn = -1): boolean {
    if (turn < 0 || turn !== this.#at_turn) this.#left_bytes = fdSize(this.#fd);
    this.#at_turn = turn;
    const left = this.#left_bytes;
    if (left < 0 || left >= this.#size_bytes) return false;
    if (!this.#said)
      mlog(
        ML.ERROR,
        `${this.#name}: the device has become smaller: ${left} bytes are left of ${this.#size_bytes}; what lay behind is lost: unmount, and restore it`,
      );
    this.#said = true;
    return Math.min(offset + len_bytes, this.#size_bytes) > left;
  }
}
