/** Volume: an OCFS2 volume opened in this process, without a mount. What the package exports. */
import { type FsCallbacks, makeCallbacks } from "./callbacks.ts";
import { type OpenOptions, OpenVolume } from "./open_volume.ts";
import { FsPromises } from "./promises.ts";

export class Volume implements AsyncDisposable {
  /** The face of node:fs/promises. */
  readonly promises: FsPromises;
  /** The face of node:fs with callbacks; `fs.promises` is `promises`. */
  readonly fs: FsCallbacks;
  /** The file or device. */
  readonly path: string;
  readonly label: string;
  /** 32 hexadecimal digits, as the tools print them. */
  readonly uuid: string;
  readonly blockSize: number;
  readonly clusterSize: number;
  readonly #v: OpenVolume;

  private constructor(v: OpenVolume) {
    const { geo } = v.osb;
    this.#v = v;
    this.promises = new FsPromises(v);
    this.fs = makeCallbacks(this.promises);
    this.path = v.path;
    this.label = geo.label;
    this.uuid = Buffer.from(geo.uuid).toString("hex").toUpperCase();
    this.blockSize = geo.blocksize;
    this.clusterSize = geo.clustersize;
  }

  /**
   * Opens the volume in a file or on a block device, replaying its journal if its last user crashed. One process of a
   * machine has it open for writing at a time. Rejects with ENOENT, EACCES, EBUSY (open elsewhere), EINVAL (no volume, a feature
   * that is not supported, a volume of a cluster without `nocluster`), EROFS (`readonly`, and the journal must be replayed).
   */
  static async open(path: string, options?: OpenOptions): Promise<Volume> {
    return new Volume(await OpenVolume.open(path, options));
  }

  /** Why nothing can be written, null while it can: opened so, a feature, or an error on the disk. */
  get readonlyReason(): string | null {
    return this.#v.osb.readonly_reason;
  }

  get readonly(): boolean {
    return this.#v.readonly;
  }

  /** All that was written is durable when it answers. */
  async sync(): Promise<void> {
    return this.#v.sync();
  }

  /** Writes everything, leaves the journal clean and frees the slot. Open handles are void afterwards. May be called twice. */
  async close(): Promise<void> {
    return this.#v.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
