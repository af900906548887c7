"""Races between two nodes that share a volume, one function a race and a side; test/cluster/rules.test.ts runs them on both at once.

usage: races.py RACE DIR SIDE SECONDS. SIDE is 0 or 1. Exits with a message when something is seen that must not be.
"""
import ctypes
import errno
import mmap
import os
import random
import struct
import sys
import threading
import time

PAGE = 4096


def until(seconds):
    end = time.time() + seconds
    while time.time() < end:
        yield


def opened(path, flags=os.O_RDWR, size=0):
    """Both sides open the file; who comes first makes it."""
    f = os.open(path, flags | os.O_CREAT, 0o644)
    if os.fstat(f).st_size < size:
        os.truncate(path, size)
    return f


def check(holds, what):
    if not holds:
        sys.exit(what)


def direct(path):
    """Reads of a file that no cache of this machine answers: the n bytes at an offset."""
    f = os.open(path, os.O_RDONLY | os.O_DIRECT)
    page = mmap.mmap(-1, PAGE)

    def read(n, at):
        os.preadv(f, [page], at - at % PAGE)
        return page[at % PAGE : at % PAGE + n]

    return read


def both_done(d, side):
    """Waits for the other side to come here, too."""
    os.close(os.open(f"{d}/done-{side}", os.O_CREAT | os.O_WRONLY))
    end = time.time() + 20
    while not os.path.exists(f"{d}/done-{1 - side}"):
        check(time.time() < end, "the other side never came")
        time.sleep(0.05)


def invalidated_reads(d, side, seconds):
    """One writes a file again and again, and says so in another one; the other never reads older pages, by whatever way."""
    size = 256 * PAGE
    f, g = opened(f"{d}/f", size=size), opened(f"{d}/g", size=PAGE)
    if side == 0:
        version = os.pread(f, 1, 0)[0]
        for _ in until(seconds):
            version += 1
            if version > 255:
                break
            os.pwrite(f, bytes([version]) * size, 0)
            os.pwrite(g, struct.pack("<Q", version), 0)
        return
    mapped = mmap.mmap(f, size, mmap.MAP_SHARED, mmap.PROT_READ)
    wrong = []

    def look(by_mapping):
        rng = random.Random(threading.get_ident())
        version = direct(f"{d}/g")
        for _ in until(seconds):
            at_least = struct.unpack("<Q", version(8, 0))[0]
            page = rng.randrange(256)
            if by_mapping:
                seen = mapped[page * PAGE]
            else:
                seen = min(os.pread(f, rng.choice([1, PAGE, 16 * PAGE]), page * PAGE))
            if seen < at_least:
                wrong.append(f"page {page} had version {seen} after {at_least}, mapped {by_mapping}")
                return

    threads = [threading.Thread(target=look, args=(i % 2 == 0,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not wrong, wrong[:1])


def partial_writes(d, side, seconds):
    """Both write a part of the same pages, which the other's write has just made not uptodate."""
    pages = 16
    f = opened(f"{d}/f", size=pages * PAGE)
    rng = random.Random(side)
    mine = {}
    for n, _ in enumerate(until(seconds)):
        page = rng.randrange(pages)
        at = page * PAGE + 100 + side * 2000
        mine[page] = struct.pack("<QQ", side, n) * 4
        check(os.pwrite(f, mine[page], at) == 64, "a short write")
        if n % 3 == 0:
            page = rng.choice(list(mine))
            check(os.pread(f, 64, page * PAGE + 100 + side * 2000) == mine[page], f"page {page} lost what was written")
    both_done(d, side)
    read = direct(f"{d}/f")
    for page, value in mine.items():
        check(read(64, page * PAGE + 100 + side * 2000) == value, f"page {page} lost what was written")


def dropped_pages(d, side, seconds):
    """Both write a part of the same page, which was read and dropped before: each node takes it for uptodate, and it is held by the write."""
    f = opened(f"{d}/f", size=PAGE)
    at = 100 + side * 2000
    mine = b""
    for n, _ in enumerate(until(seconds)):
        os.pread(f, 1, 0)
        os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
        mine = struct.pack("<QQ", side, n) * 4
        check(os.pwrite(f, mine, at) == 64, "a short write")
    both_done(d, side)
    check(direct(f"{d}/f")(64, at) == mine, "what was written last is lost")


def mapped_counters(d, side, seconds):
    """Both count in the same pages through a shared mapping: no step is lost."""
    pages = 8
    f = opened(f"{d}/f", size=pages * PAGE)
    m = mmap.mmap(f, pages * PAGE)
    counts = [0] * pages
    for n, _ in enumerate(until(seconds)):
        page = n % pages
        at = page * PAGE + 64 + side * 1024
        (seen,) = struct.unpack("<Q", m[at : at + 8])
        check(seen == counts[page], f"page {page} counts {seen}, not {counts[page]}")
        counts[page] += 1
        m[at : at + 8] = struct.pack("<Q", counts[page])
    m.flush()
    both_done(d, side)
    read = direct(f"{d}/f")
    for page in range(pages):
        at = page * PAGE + 64 + side * 1024
        (seen,) = struct.unpack("<Q", read(8, at))
        check(seen == counts[page], f"page {page} counts {seen} at the end, not {counts[page]}")


def mapped(f, size):
    """A mapping as soon as the file is as long: the other may have begun to cut it."""
    while True:
        try:
            return mmap.mmap(f, size)
        except ValueError:
            time.sleep(0.001)


def size_during_writeback(d, side, seconds):
    """Pages become dirty through a mapping and the size changes, while the other writes: what writes back waits for nobody who waits for it."""
    f = opened(f"{d}/f", size=1 << 20)
    m = mapped(f, 1 << 20)
    for n, _ in enumerate(until(seconds)):
        if side == 0:
            m[(n % 4) * PAGE] = n % 256
            os.ftruncate(f, 65536 if n % 2 else 1 << 20)
            os.pwrite(f, b"y" * PAGE, (n * 7 % 250) * PAGE)
        elif n % 8 < 4:
            os.pwrite(f, b"x" * 100, (n % 16) * PAGE + 1000)
        else:
            m[(n % 4) * PAGE + 9] = n % 256


class Aio:
    """libaio's system calls, without libaio."""

    def __init__(self, n):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.ctx = ctypes.c_ulong(0)
        self.call(206, n, ctypes.byref(self.ctx))

    def call(self, *args):
        got = self.libc.syscall(*args)
        check(got >= 0, f"aio: {os.strerror(ctypes.get_errno())}")
        return got

    def submit(self, writes):
        """(fd, memory's address, length, offset) each; answers when all are in flight."""
        blocks = [ctypes.create_string_buffer(struct.pack("<QIIHhIQQqQII", i, 0, 0, 1, 0, f, a, n, o, 0, 0, 0)) for i, (f, a, n, o) in enumerate(writes)]
        self.kept = blocks
        pointers = (ctypes.c_void_p * len(blocks))(*[ctypes.addressof(b) for b in blocks])
        check(self.call(209, self.ctx, len(blocks), pointers) == len(blocks), "aio: not all were taken")

    def wait(self, n):
        events = ctypes.create_string_buffer(32 * n)
        check(self.call(208, self.ctx, n, n, events, None) == n, "aio: not all came back")
        for i in range(n):
            (got,) = struct.unpack_from("<q", events, 32 * i + 16)
            check(got == PAGE, f"aio: a write answered {got}")


def parked_aios(d, side, seconds):
    """Both have a hundred direct writes in flight, which wait for a lock that the other one holds; and each looks at other things meanwhile."""
    n = 100
    f = opened(f"{d}/f", os.O_RDWR | os.O_DIRECT, 2 * n * PAGE)
    memory = mmap.mmap(-1, n * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    aio = Aio(n)
    for step, _ in enumerate(until(seconds)):
        for i in range(n):
            memory[i * PAGE : i * PAGE + 16] = struct.pack("<QII", step, i, side)
        aio.submit([(f, address + i * PAGE, PAGE, (2 * i + side) * PAGE) for i in range(n)])
        os.stat(f"{d}/f")
        os.listdir(d)
        aio.wait(n)
        seen = mmap.mmap(-1, PAGE)
        for i in (0, n // 2, n - 1):
            os.preadv(f, [seen], (2 * i + side) * PAGE)
            check(seen[:16] == struct.pack("<QII", step, i, side), f"block {i} is not what was written in step {step}")


def two_rm(d, side, seconds):
    """Both remove the same names of one directory, each knows them all."""
    for n, _ in enumerate(until(seconds)):
        names = [f"{d}/{n}-{i}" for i in range(30)]
        for name in names[side::2]:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        known = [f"{d}/{name}" for name in os.listdir(d)]
        for name in known:
            try:
                os.stat(name)
            except FileNotFoundError:
                pass
        for name in known if side == 0 else reversed(known):
            try:
                os.unlink(name)
            except FileNotFoundError:
                pass


def fresh_inodes(d, side, seconds):
    """One makes files, the other takes the locks of each in the moment in which the maker's kernel hears of it."""
    for n, _ in enumerate(until(seconds)):
        if side == 0:
            name = f"{d}/{n % 50}"
            f = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
            os.pwrite(f, b"%d" % n, 0)
            check(os.pread(f, 20, 0).startswith(b"%d" % n), "a file is not what was just written")
            os.close(f)
            check(os.stat(name).st_mode & 0o7000 == 0, "a mode that nobody gave")
            os.unlink(name)
            continue
        for name in os.listdir(d):
            try:
                os.chmod(f"{d}/{name}", random.choice([0o600, 0o644]))
                os.utime(f"{d}/{name}")
            except OSError as e:
                check(e.errno in (errno.ENOENT, errno.ESTALE), f"{name}: {e}")


def users_create(d, side, seconds):
    """Both make one name in the same moment, as different users and as the same: who comes second opens the file as what it is, or is refused."""
    if side == 0:
        os.chmod(d, 0o777)
    while os.stat(d).st_mode & 0o777 != 0o777:
        time.sleep(0.01)
    for _ in until(seconds):
        step = int(time.time() * 50) + 1
        time.sleep(max(0, step / 50 - time.time()))
        uid = 1000 + (side if step % 2 else 0)
        os.seteuid(uid)
        name = f"{d}/{step}"
        try:
            f = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
            check(os.fstat(f).st_uid == uid, "another user's file was opened")
            os.close(f)
        except PermissionError:
            check(step % 2, "a user's own file was refused")
        os.seteuid(0)
        if step % 2 == 0 and side == 0:
            os.unlink(name)


RACES = {
    f.__name__: f
    for f in (invalidated_reads, partial_writes, dropped_pages, mapped_counters, size_during_writeback, parked_aios, two_rm, fresh_inodes, users_create)
}

if __name__ == "__main__":
    race, where, which, for_seconds = sys.argv[1:5]
    RACES[race](where, int(which), float(for_seconds))
