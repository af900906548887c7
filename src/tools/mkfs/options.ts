/** From what stands on the command line to parameters. Mirrors get_state, get_number, get_valid_size and parse_journal_opts of mkfs.c. */

import { FEATURE_COMPAT, FEATURE_INCOMPAT } from "../../format/disk/constants.ts";
import {
  OCFS2_CLASSIC_CLUSTER_STACK,
  OCFS2_CLUSTER_NAME_LEN,
  OCFS2_MAX_BLOCKSIZE,
  OCFS2_MAX_CLUSTERSIZE,
  OCFS2_MAX_SLOTS,
  OCFS2_MAX_VOL_LABEL_LEN,
  OCFS2_MIN_BLOCKSIZE,
  OCFS2_MIN_CLUSTERSIZE,
  OCFS2_MIN_JOURNAL_SIZE,
} from "../../format/disk/index.ts";
import { chooseFeatures, isFeatureLevel, removeFeatures } from "./features.ts";
import { type FsType, KIB, MkfsError, type MkfsParams } from "./params.ts";

/** Option values as they were given. */
export interface RawOptions {
  readonly blockSize?: string | undefined;
  readonly clusterSize?: string | undefined;
  readonly label?: string | undefined;
  readonly nodeSlots?: string | undefined;
  readonly journalOptions?: string | undefined;
  readonly mount?: string | undefined;
  readonly type?: string | undefined;
  readonly uuid?: string | undefined;
  readonly fsFeatures?: string | undefined;
  readonly fsFeatureLevel?: string | undefined;
  readonly clusterStack?: string | undefined;
  readonly clusterName?: string | undefined;
  readonly globalHeartbeat?: boolean | undefined;
  readonly heartbeatDevice?: boolean | undefined;
  readonly backupSuper?: boolean | undefined;
}

/** What the user said about the cluster; which cluster the volume gets depends on what runs, too (cluster_info.ts). */
export interface ClusterWish {
  readonly stack: string | undefined;
  readonly name: string | undefined;
  readonly global_heartbeat: boolean;
}

const CLUSTER_STACKS = [OCFS2_CLASSIC_CLUSTER_STACK, "pcmk", "cman"];
const FS_TYPES: readonly FsType[] = ["mail", "datafiles", "vmstore"];

/** A whole number as strtoull reads it with base 0: decimal, 0x... or 0...; undefined if there is anything else. */
function parseWhole(text: string): number | undefined {
  if (/^0[0-7]+$/.test(text)) return Number.parseInt(text, 8);
  const n = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(n) ? n : undefined;
}

/** A number of bytes with an optional suffix b, k, m or g. */
export function parseBytes(text: string): number | undefined {
  const suffix = /[bkmg]$/i.exec(text)?.[0].toLowerCase();
  // The b of 0x1b is a digit.
  const hex = /^0x/i.test(text) && suffix === "b";
  const n = parseWhole(suffix && !hex ? text.slice(0, -1) : text);
  if (n === undefined) return undefined;
  const power = hex ? 0 : Math.max(0, "bkmg".indexOf(suffix ?? "b"));
  const bytes = n * KIB ** power;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** A size in a range, taken down to a power of two. */
function parseSize(text: string, what: string, min: number, max: number): number {
  const n = parseBytes(text);
  if (n === undefined || n < min || n > max) {
    throw new MkfsError(
      `${what} ${text} is not valid: specify a power of 2 between ${min} and ${max}, such as ${max / KIB}K`,
    );
  }
  return 2 ** Math.floor(Math.log2(n));
}

function parseSlots(text: string): number {
  const n = parseWhole(text);
  if (n === undefined || n < 1 || n > OCFS2_MAX_SLOTS) {
    throw new MkfsError(`-N ${text} is not valid: node slots must be between 1 and ${OCFS2_MAX_SLOTS}`);
  }
  return n;
}

function parseJournal(text: string): { journal_bytes: number | undefined; journal64: boolean } {
  let journal_bytes: number | undefined;
  let journal64 = false;
  for (const token of text.split(",").filter((t) => t !== "")) {
    const [key = "", value] = token.split("=", 2);
    if (key === "size" && value !== undefined) {
      journal_bytes = parseBytes(value);
      if (journal_bytes === undefined || journal_bytes < OCFS2_MIN_JOURNAL_SIZE) {
        throw new MkfsError(
          `journal size ${value} is not valid: it must be at least ${OCFS2_MIN_JOURNAL_SIZE} bytes, such as 64M`,
        );
      }
    } else if (value === undefined && (key === "block32" || key === "noblock64")) {
      journal64 = false;
    } else if (value === undefined && (key === "block64" || key === "noblock32")) {
      journal64 = true;
    } else {
      throw new MkfsError(`bad journal option "${token}"; valid are size=<journal size>, [no]block32 and [no]block64`);
    }
  }
  return { journal_bytes, journal64 };
}

function parseMount(text: string): "local" | "cluster" {
  const lower = text.toLowerCase();
  if (lower.startsWith("local")) return "local";
  if (lower.startsWith("cluster")) return "cluster";
  throw new MkfsError(`invalid mount type ${text}; valid are local and cluster`);
}

function parseType(text: string): FsType {
  const type = FS_TYPES.find((t) => t === text);
  if (!type) throw new MkfsError(`bad file system type ${text}; valid are ${FS_TYPES.join(", ")}`);
  return type;
}

/** A uuid with or without its dashes. */
export function parseUuid(text: string): Uint8Array {
  const plain = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text) ? text.replaceAll("-", "") : text;
  if (!/^[0-9a-f]{32}$/i.test(plain)) {
    throw new MkfsError(`invalid UUID ${text}; give 32 hexadecimal digits, such as 2A4D1C581FAA42A1A41D26EFC90C1315`);
  }
  return Uint8Array.from(Buffer.from(plain, "hex"));
}

function parseBlocks(text: string): number | undefined {
  const n = parseWhole(text);
  if (n === undefined) throw new MkfsError(`block count ${text} is bad; give a number of blocks`);
  return n === 0 ? undefined : n;
}

/** Throws MkfsError for a cluster that cannot be. Mirrors is_cluster_info_valid. */
function checkCluster(w: ClusterWish, local: boolean): void {
  if (w.stack === undefined && w.name === undefined && !w.global_heartbeat) return;
  if (local) {
    throw new MkfsError(
      "a local volume has no cluster; leave out -M local, or --cluster-stack, --cluster-name and --global-heartbeat",
    );
  }
  if (!w.stack) throw new MkfsError("cluster stack is missing; add --cluster-stack=o2cb");
  if (!CLUSTER_STACKS.includes(w.stack)) {
    throw new MkfsError(`unknown cluster stack "${w.stack}"; known are ${CLUSTER_STACKS.join(", ")}`);
  }
  if (!w.name) throw new MkfsError("cluster name is missing; add --cluster-name=NAME");
  const classic = w.stack === OCFS2_CLASSIC_CLUSTER_STACK;
  if (Buffer.byteLength(w.name) > OCFS2_CLUSTER_NAME_LEN || (classic && !/^[a-z0-9]+$/i.test(w.name))) {
    const kind = classic ? "alpha-numeric characters" : "characters";
    throw new MkfsError(`cluster name "${w.name}" is invalid; at most ${OCFS2_CLUSTER_NAME_LEN} ${kind}`);
  }
  if (w.global_heartbeat && !classic) {
    throw new MkfsError(
      `global heartbeat is for the o2cb cluster stack only; leave it out with --cluster-stack=${w.stack}`,
    );
  }
}

const given = <T>(text: string | undefined, parse: (text: string) => T): T | undefined =>
  text === undefined ? undefined : parse(text);

/** Parameters but for the cluster, which is to be filled in, and the user's wishes about it. Throws MkfsError. */
export function parseOptions(o: RawOptions, blocks_text?: string): { params: MkfsParams; wish: ClusterWish } {
  const level = o.fsFeatureLevel ?? "default";
  if (!isFeatureLevel(level)) {
    throw new MkfsError(`unknown feature level "${level}"; valid are default, max-compat and max-features`);
  }
  const mount = given(o.mount, parseMount);
  const chosen = chooseFeatures(level, o.fsFeatures ?? "");
  const features = mount === "cluster" ? removeFeatures(chosen, ["local"]) : chosen;
  const label = o.label ?? "";
  if (Buffer.byteLength(label) >= OCFS2_MAX_VOL_LABEL_LEN) {
    throw new MkfsError(`volume label too long: it must be less than ${OCFS2_MAX_VOL_LABEL_LEN} bytes`);
  }
  const local = mount === "local" || (features.incompat & FEATURE_INCOMPAT.LOCAL_MOUNT) !== 0;
  const wish = { stack: o.clusterStack, name: o.clusterName, global_heartbeat: o.globalHeartbeat ?? false };
  checkCluster(wish, local);
  const journal = given(o.journalOptions, parseJournal);
  const params: MkfsParams = {
    features,
    backup_super: o.backupSuper !== false && (features.compat & FEATURE_COMPAT.BACKUP_SB) !== 0,
    fs_type: given(o.type, parseType) ?? "default",
    local,
    heartbeat_device: o.heartbeatDevice ?? false,
    index_system_dir: true,
    label,
    journal64: journal?.journal64 ?? false,
    cluster: undefined,
    uuid: given(o.uuid, parseUuid),
    block_size: given(o.blockSize, (t) => parseSize(t, "block size", OCFS2_MIN_BLOCKSIZE, OCFS2_MAX_BLOCKSIZE)),
    cluster_size: given(o.clusterSize, (t) =>
      parseSize(t, "cluster size", OCFS2_MIN_CLUSTERSIZE, OCFS2_MAX_CLUSTERSIZE),
    ),
    slots: given(o.nodeSlots, parseSlots),
    journal_bytes: journal?.journal_bytes,
    blocks: given(blocks_text, parseBlocks),
  };
  return { params, wish };
}
