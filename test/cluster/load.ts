/** cluster_load (test/support/cluster_load.c) on the nodes of a cluster: what each was promised is known outside of it, whatever becomes of it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildC } from "../support/build_c.ts";
import { KernelMember, type Member } from "./members.ts";

export interface Promised {
  readonly ops: number;
  readonly records: number;
  readonly kept: number;
  readonly counted: number;
}

/** A path of this machine, as the member sees it. */
const seenBy = (m: Member, path: string): string => (m instanceof KernelMember ? `/host${path}` : path);

export class Load {
  readonly name: string;
  readonly member: Member;
  readonly #ack: string;
  /** Settles when the program has ended: with what it said and its status; it never fails. */
  readonly ended: Promise<string>;
  /** What it said, once it has ended. */
  said: string | undefined;

  /** Starts it in `sub` of the volume; `seconds` 0: until `stop`. `dir` is a folder for what it acknowledges, `name` one that was never used on this volume. */
  constructor(member: Member, o: { dir: string; sub: string; name: string; seed: number; seconds: number }) {
    this.member = member;
    this.name = o.name;
    this.#ack = join(o.dir, o.name);
    const program = seenBy(member, buildC("cluster_load.c"));
    const line = `mkdir -p $D/${o.sub}; ${program} $D/${o.sub} ${o.name} ${seenBy(member, this.#ack)} ${o.seed} ${o.seconds}; echo status $?`;
    this.ended = member
      .run(line, (o.seconds === 0 ? 86400 : o.seconds + 240) * 1000)
      .catch((err) => (err instanceof Error ? err.message : String(err)))
      .then((said) => {
        this.said = said;
        return said;
      });
  }

  /** What it was promised so far. */
  promised(): Promised {
    let text = "";
    try {
      text = readFileSync(this.#ack, "utf8");
    } catch {}
    const [ops = 0, records = 0, kept = 0, counted = 0] = text.trim().split(/\s+/).map(Number);
    return { ops, records, kept, counted };
  }

  /** Lets it end, when it was started for no certain time. */
  stop(): void {
    writeFileSync(`${this.#ack}.stop`, "");
  }

  /** Whether it ended because of what it found; undefined while it runs or when its node died under it. */
  get wrong(): string | undefined {
    return this.said?.includes("WRONG") === true ? this.said : undefined;
  }
}

/** What `m` finds of what another's load, or its own, was promised: undefined when all of it is there. */
export async function lost(m: Member, sub: string, name: string, p: Promised): Promise<string | undefined> {
  const program = seenBy(m, buildC("cluster_load.c"));
  const said = await m.run(`${program} -c $D/${sub} ${name} ${p.records} ${p.kept}; echo status $?`);
  return said.endsWith("status 0\n") ? undefined : `on ${m.name}: ${said}`;
}

/** The sum of the counters that all loads moved on under flock. */
export async function countersOf(m: Member, sub: string): Promise<number> {
  return Number(
    await m.run(
      `python3 -c "import struct;print(sum(struct.unpack_from('<Q',open('$D/${sub}/c%d'%i,'rb').read())[0] for i in range(3)))"`,
    ),
  );
}
