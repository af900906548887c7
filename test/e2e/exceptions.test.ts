/**
 * What FUSE does not give (docs/FUSE.md, "What FUSE cannot give"), shown on a mount of one node. The exceptions that take two nodes are in
 * test/cluster/rules.test.ts and mountpoints.test.ts. One that goes away shows here: then the text changes, too.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { fsck, fsckUnavailable } from "../support/judges.ts";
import { mountUnavailable, ocfs2, withMount } from "../support/mount.ts";
import { missing, runAsync, sh } from "../support/sh.ts";

const unavailable =
  mountUnavailable() ?? fsckUnavailable() ?? (missing("python3").length > 0 ? "no python3" : undefined);

/** A volume on which everything can be shared, with its journal small. */
function volume(mib: number): string {
  const image = join(tempDir("ocfs2-exceptions"), "image");
  mkfs(image, mib, ["-M", "local", "-b", "4K", "-C", "4K", "-N", "1", "-J", "size=8M", "--fs-features=refcount"]);
  return image;
}

async function python(dir: string, program: string): Promise<string> {
  const ran = await runAsync([
    "python3",
    "-c",
    `import errno, fcntl, mmap, os, struct\nos.chdir("${dir}")\n${program}`,
  ]);
  expect(ran.stderr).toBe("");
  expect(ran.status).toBe(0);
  return ran.stdout;
}

/** How an ioctl ends: "ok", or its errno's name. */
const IOCTL = `
def tried(f, nr, arg=0):
    try:
        fcntl.ioctl(f, nr, arg)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
`;

describe.skipIf(unavailable !== undefined)("what FUSE does not give", () => {
  test("FICLONE and FIDEDUPERANGE are refused above us; copy_file_range shares whole clusters instead", async () => {
    const image = volume(64);
    await withMount(image, async (dir) => {
      const said = await python(
        dir,
        `${IOCTL}
a = os.open("a", os.O_CREAT | os.O_RDWR)
os.write(a, os.urandom(8 << 20)); os.fsync(a)
b = os.open("b", os.O_CREAT | os.O_RDWR)
print(tried(b, 0x40049409, a))
print(tried(a, 0xc0189436, struct.pack("<QQHHIqQQiI", 0, 4096, 1, 0, 0, b, 0, 0, 0, 0)))
print(os.copy_file_range(a, b, 8 << 20, 0, 0) == 8 << 20)
print(open("a", "rb").read() == open("b", "rb").read())`,
      );
      expect(said).toBe("ENOTSUP\nENOTSUP\nTrue\nTrue\n");
    });
    const trees = ["/a", "/b"].map((file) => {
      const argv = [process.execPath, ocfs2, "debugfs", "--json", "-R", `stat ${file}`, image];
      return (JSON.parse(sh(argv)) as { i_refcount_loc: number }).i_refcount_loc;
    });
    expect(trees[0]).toBeGreaterThan(0);
    expect(trees[1]).toBe(trees[0]);
    expect(fsck(image).findings).toEqual([]);
  });

  test("ioctls whose arguments hold pointers: ENOTTY; those that do not come through", async () => {
    await withMount(volume(64), async (dir) => {
      const said = await python(
        dir,
        `${IOCTL}
f = os.open("f", os.O_CREAT | os.O_RDWR)
# OCFS2_IOC_REFLINK, OCFS2_IOC_INFO, OCFS2_IOC_MOVE_EXT
print(tried(f, 0x40186f04, struct.pack("<QQQ", 0, 0, 0)), tried(f, 0x80106f05, bytes(16)), tried(f, 0x40286f06, bytes(40)))
# FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (nodump), FITRIM
print(tried(f, 0x80086601, bytes(8)), tried(f, 0x40086602, struct.pack("<Q", 0x40)), tried(f, 0xc0185879, struct.pack("<QQQ", 0, 2**64 - 1, 0)))`,
      );
      expect(said).toBe("ENOTTY ENOTTY ENOTTY\nok ok ok\n");
    });
  });

  test("FIEMAP is refused, FIBMAP answers 0; what chattr forbids is found out at open(2) and write(2), not by access(2), fcntl(2) and mmap(2)", async () => {
    await withMount(volume(64), async (dir) => {
      const said = await python(
        dir,
        `${IOCTL}
f = os.open("f", os.O_CREAT | os.O_RDWR)
os.write(f, bytes(4096))
os.fsync(f)
print(tried(f, 0xc020660b, struct.pack("<QQIIII", 0, 4096, 0, 0, 0, 0)), fcntl.ioctl(f, 1, struct.pack("<i", 0)))
SETFLAGS, IMMUTABLE, APPEND = 0x40086602, 0x10, 0x20
fcntl.ioctl(f, SETFLAGS, struct.pack("<Q", IMMUTABLE))
print(os.access("f", os.W_OK))
fcntl.ioctl(f, SETFLAGS, struct.pack("<Q", APPEND))
a = os.open("f", os.O_RDWR | os.O_APPEND)
print(fcntl.fcntl(a, fcntl.F_SETFL, 0))
m = mmap.mmap(a, 4096)
m[0] = 7
m.flush()
print(os.pread(f, 1, 0))
fcntl.ioctl(f, SETFLAGS, bytes(8))`,
      );
      expect(said).toBe("ENOTSUP b'\\x00\\x00\\x00\\x00'\nTrue\n0\nb'\\x07'\n");
    });
  });

  test("atime moves with the first READ of an open file, and not with reads from the page cache; no times of a pipe move", async () => {
    await withMount(volume(64), async (dir) => {
      const old = 1_000_000_000;
      const said = await python(
        dir,
        `
open("f", "w").write("x" * 4096)
def moved():
    a = os.stat("f").st_atime > ${old}
    os.utime("f", (${old}, os.stat("f").st_mtime))
    return a
os.utime("f", (${old}, os.stat("f").st_mtime))
f = os.open("f", os.O_RDONLY)
os.fsync(f); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
os.read(f, 100); print(moved())
os.pread(f, 100, 0); print(moved())
g = os.open("f", os.O_RDONLY)
os.read(g, 100); print(moved())
d = os.open("f", os.O_RDONLY | os.O_DIRECT)
os.preadv(d, [mmap.mmap(-1, 4096)], 0); print(moved())
os.mkdir("d"); os.utime("d", (${old}, ${old})); os.listdir("d"); print(os.stat("d").st_atime > ${old})
os.mkfifo("p"); os.utime("p", (${old}, ${old})); os.write(os.open("p", os.O_RDWR), b"x"); print(os.stat("p").st_mtime > ${old})`,
      );
      // Read from the disk; from the cache by the same and by another handle; past the cache. A folder. A pipe that is written to.
      expect(said).toBe("True\nFalse\nFalse\nTrue\nFalse\nFalse\n");
    });
  });

  test("a hole that was written through a mapping finds no space at write-back: msync says ENOSPC", async () => {
    const image = volume(48);
    await withMount(image, async (dir) => {
      const said = await python(
        dir,
        `
f = os.open("hole", os.O_CREAT | os.O_RDWR)
os.ftruncate(f, 4 << 20)
m = mmap.mmap(f, 4 << 20)
full = os.open("full", os.O_CREAT | os.O_RDWR)
n = 1 << 20
while n >= 4096:
    try:
        os.write(full, bytes(n))
    except OSError as e:
        assert e.errno == errno.ENOSPC
        n //= 2
for i in range(0, 4 << 20, 4096):
    m[i] = 7
try:
    m.flush()
    print("written")
except OSError as e:
    print(errno.errorcode[e.errno])`,
      );
      expect(said).toBe("ENOSPC\n");
    });
    expect(fsck(image).findings).toEqual([]);
  });

  test("syncfs(2) does not reach a FUSE file system; fsync(2) does", async () => {
    const image = volume(64);
    const copy = join(tempDir("ocfs2-exceptions"), "copy");
    await withMount(
      image,
      async (dir) => {
        /** What is there after a crash at this moment. */
        const kept = async (): Promise<string> => {
          sh(["cp", "--sparse=always", image, copy]);
          return withMount(copy, async (other) => sh(["ls", "-I", "lost+found", other]));
        };
        await python(dir, 'open("one", "w").write("1")');
        // Not sync(2): it waits for every file system of the machine, those of other tests too that have lost their server.
        sh(["sync", "-f", dir]);
        expect(await kept()).toBe("");
        sh(["sync", join(dir, "one")]);
        expect(await kept()).toBe("one\n");
      },
      { options: "commit=3600" },
    );
  });

  test("-o sync: each write(2) is durable when it returns, by the kernel's fsync behind it", async () => {
    const image = volume(64);
    const copy = join(tempDir("ocfs2-exceptions"), "copy");
    await withMount(
      image,
      async (dir) => {
        await python(dir, 'f = os.open("f", os.O_CREAT | os.O_WRONLY); os.write(f, b"12345")');
        sh(["cp", "--sparse=always", image, copy]);
        expect(await withMount(copy, async (other) => sh(["cat", join(other, "f")]))).toBe("12345");
      },
      { options: "sync,commit=3600" },
    );
  });
});
