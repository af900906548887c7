/**
 * The tree that is unpacked and built: generated C, the same every time, so that it can be built wherever gcc is, inside a kernel node
 * too. As in a real one a source includes a dozen headers, objects and libraries are made and replaced, and most files are never compiled.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../../test/support/cleanup.ts";
import { sh } from "../../test/support/sh.ts";

const SOURCES_PER_DIR = 12;
const HEADERS = 40;
const OTHERS_PER_SOURCE = 5;

const header = (i: number): string =>
  `#ifndef H${i}\n#define H${i}\n#include <stddef.h>\n` +
  `struct s${i} { int a[${(i % 7) + 1}]; struct s${i} *next; size_t n; };\n` +
  `static inline int f${i}(const struct s${i} *p, int x) { return p ? p->a[0] * ${i + 3} + x : x; }\n#endif\n`;

function source(d: number, i: number): string {
  const headers = Array.from({ length: 12 }, (_, k) => (i * 5 + d * 3 + k * 7) % HEADERS);
  const functions = Array.from({ length: 24 }, (_, k) => {
    const h = headers[k % headers.length]!;
    return (
      `int m${d}_${i}_${k}(const struct s${h} *p, int x) {\n  char text[64];\n  int sum = 0;\n` +
      `  for (int i = 0; i < x; i++) { sum += f${h}(p, i ^ ${k}); if (sum & ${1 << (k % 8)}) sum = sum * 31 + ${k}; }\n` +
      `  snprintf(text, sizeof text, "%d ${d} ${i} ${k}", sum);\n  return (int)strlen(text) + sum;\n}\n`
    );
  });
  return `#include <stdio.h>\n#include <string.h>\n${headers.map((h) => `#include "h${h}.h"\n`).join("")}${functions.join("")}`;
}

const MAKEFILE = `DIRS := $(wildcard d*)
OBJS := $(patsubst %.c,%.o,$(wildcard d*/*.c))
LIBS := $(addsuffix /built-in.a,$(DIRS))
prog: $(LIBS) main.o
\t$(CC) -o $@ main.o $(LIBS)
%.o: %.c
\t$(CC) -O1 -Iinclude -MMD -c -o $@.tmp $<
\tmv $@.tmp $@
define lib
$(1)/built-in.a: $(patsubst %.c,%.o,$(wildcard $(1)/*.c))
\trm -f $$@
\t$(AR) rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call lib,$(d))))
`;

export interface Tree {
  readonly tar: string;
  /** In it. */
  readonly files: number;
  readonly sources: number;
}

/** A tar of a folder "tree" with `sources` C files and some others to each. */
export function makeTree(sources: number): Tree {
  const base = tempDir("ocfs2-bench-tree");
  const top = join(base, "tree");
  let files = 0;
  const put = (path: string, text: string): void => {
    files++;
    writeFileSync(join(top, path), text);
  };
  mkdirSync(join(top, "include"), { recursive: true });
  for (let i = 0; i < HEADERS; i++) put(`include/h${i}.h`, header(i));
  put("Makefile", MAKEFILE);
  put("main.c", "int main(void) { return 0; }\n");
  for (let n = 0; n < sources; n++) {
    const [d, i] = [Math.floor(n / SOURCES_PER_DIR), n % SOURCES_PER_DIR];
    if (i === 0) mkdirSync(join(top, `d${d}`, "other"), { recursive: true });
    put(`d${d}/m${i}.c`, source(d, i));
    for (let k = 0; k < OTHERS_PER_SOURCE; k++)
      put(`d${d}/other/t${i}_${k}`, `${d} ${i} ${k}\n`.repeat(30 + ((n * 37 + k * 101) % 900)));
  }
  const tar = join(base, "tree.tar");
  sh(["tar", "-C", base, "-cf", tar, "tree"]);
  return { tar, files, sources };
}
