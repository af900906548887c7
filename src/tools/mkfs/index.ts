/**
 * Makes an OCFS2 volume: sizes are figured out, every block is planned, and only then written. What it needs of the world comes in
 * as arguments: where to write, the time and the chance.
 */
import type { Clock, Random } from "../../lib/clock.ts";
import { figureGeometry, type Geometry } from "./geometry.ts";
import type { MkfsParams, TargetShape } from "./params.ts";
import type { Identity } from "./piece.ts";
import { planVolume, type VolumePlan } from "./plan.ts";
import { type MkfsSink, type WriteHooks, writeVolume } from "./write.ts";

export { chooseFeatures, featureText } from "./features.ts";
export { figureGeometry, type Geometry } from "./geometry.ts";
export {
  type ClusterDesc,
  type FeatureSet,
  type FsType,
  MkfsError,
  type MkfsParams,
  type TargetShape,
} from "./params.ts";
export { type Identity, STAGES, type Stage } from "./piece.ts";
export { planVolume, type VolumePlan } from "./plan.ts";
export { type MkfsSink, type WriteHooks, writeVolume } from "./write.ts";

export interface World {
  readonly clock: Clock;
  readonly random: Random;
}

/** A random (version 4) uuid. */
export function randomUuid(random: Random): Uint8Array {
  const uuid = new Uint8Array(16);
  const dv = new DataView(uuid.buffer);
  for (let i = 0; i < 16; i += 4) dv.setUint32(i, random.u32());
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

/** What tells this volume from all others. Asks `random` for the generation, the three seeds and, if none was given, the uuid. */
export function newIdentity(p: MkfsParams, world: World): Identity {
  const { random } = world;
  return {
    generation: random.u32(),
    time: world.clock.realtime().sec,
    dx_seed: [random.u32(), random.u32(), random.u32()],
    uuid: p.uuid ?? randomUuid(random),
  };
}

/** Plans a volume for a device of this shape. Throws MkfsError when it cannot be made; nothing has been written then. */
export function planMkfs(
  p: MkfsParams,
  target: TargetShape,
  world: World,
  geometry: Geometry = figureGeometry(p, target),
): VolumePlan {
  return planVolume(p, geometry, newIdentity(p, world));
}

/** Makes a volume on `sink`, and returns what it made once that is on the disk. */
export function mkfs(p: MkfsParams, target: TargetShape, sink: MkfsSink, world: World, hooks?: WriteHooks): VolumePlan {
  const plan = planMkfs(p, target, world);
  writeVolume(plan, sink, hooks);
  return plan;
}
