"""What programs get from each call on a file system: errno, sizes, modes. One line a call, "what: result"; test/e2e/posix.test.ts compares
them with posix.expected, which is what Linux's own file systems give wherever they agree.

usage: posix.py DIR [called-off], as root, on an empty file system with blocks and clusters of 4 KiB; "called-off" where locks are called back
all the time: the kernel takes no notice of attributes that it asked for before such a call, and may start one program with the mode of before
"""
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

import handles

libc = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
CALLED_OFF = sys.argv[2:] == ["called-off"]


def call(name, *args):
    longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    r = getattr(libc, name)(*longs)
    if r < 0:
        raise OSError(ctypes.get_errno(), name)
    return r


def said(fn):
    try:
        return repr(fn())
    except OSError as e:
        return errno.errorcode[e.errno]


def say(what, fn):
    print(f"{what}: {said(fn)}", flush=True)


def eventually(fn, wanted):
    """What `fn` gives: `wanted` within ten seconds, or what it gave last."""
    end = time.monotonic() + 10
    while (got := fn()) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return got


class Said(str):
    __repr__ = str.__str__


def as_user(fn, uid=NOBODY, gid=NOBODY, groups=()):
    """What `fn` gives in a process of another user."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        os.write(w, said(fn).encode())
        os._exit(0)
    os.close(w)
    out = os.read(r, 65536).decode()
    os.close(r)
    os.waitpid(pid, 0)
    return Said(out)


def opened(path, flags, fn=lambda f: None):
    f = os.open(path, flags, 0o666)
    try:
        return fn(f)
    finally:
        os.close(f)


def make(path, data=b"", mode=0o644, uid=0, gid=0):
    if os.path.lexists(path):
        os.unlink(path)
    opened(path, os.O_CREAT | os.O_WRONLY, lambda f: os.write(f, data))
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def mode(path):
    return oct(os.lstat(path).st_mode & 0o7777)


def write(path, flags=os.O_WRONLY, data=b"x"):
    return opened(path, flags, lambda f: os.write(f, data))


def direct(n, fill=b"D"):
    page = mmap.mmap(-1, 8192)
    page.write(fill * 8192)
    return memoryview(page)[:n]


def link_open(f, name):
    """Gives an open file a name (open(2), O_TMPFILE)."""
    return call("linkat", -100, f"/proc/self/fd/{f}".encode(), -100, name.encode(), AT_SYMLINK_FOLLOW)


def renameat2(a, b, flags):
    return call("renameat2", -100, a.encode(), -100, b.encode(), flags)


def fallocate(path, how, at, n):
    return opened(path, os.O_RDWR, lambda f: call("fallocate", f, how, at, n))


def ioctl(path, nr, arg=b"", flags=os.O_RDONLY):
    out = bytearray(arg)
    opened(path, flags, lambda f: fcntl.ioctl(f, nr, out, True))
    return bytes(out).hex()


AT_SYMLINK_FOLLOW = 0x400
KEEP, PUNCH, ZERO = 1, 2, 16
SEEK_DATA, SEEK_HOLE = 3, 4
NOREPLACE, EXCHANGE = 1, 2
GETFLAGS, SETFLAGS, FSGETXATTR = 0x80086601, 0x40086602, 0x801C581F
IMMUTABLE, APPEND = 0x10, 0x20


def flags(path, value):
    return ioctl(path, SETFLAGS, struct.pack("<Q", value))


def names():
    make("n" * 255)
    long = "n" * 256
    for what, fn in {
        "open": lambda: os.open(long, os.O_CREAT),
        "stat": lambda: os.stat(long),
        "mkdir": lambda: os.mkdir(long),
        "symlink": lambda: os.symlink("x", long),
        "link": lambda: os.link("n" * 255, long),
        "rename": lambda: os.rename("n" * 255, long),
        "unlink": lambda: os.unlink(long),
        "rmdir": lambda: os.rmdir(long),
        "mknod": lambda: os.mknod(long, 0o600 | stat.S_IFIFO),
    }.items():
        say(f"{what} of 256 bytes", fn)
    os.unlink("n" * 255)
    make(b"\xff\xfe\x01")
    say("a name of any bytes is listed", lambda: b"\xff\xfe\x01" in os.listdir(b"."))
    for n in (1, 59, 255, 4095, 4096):
        say(f"symlink of {n}", lambda: (os.symlink("t" * n, f"sl{n}"), len(os.readlink(f"sl{n}")), os.lstat(f"sl{n}").st_size)[1:])

    os.mkdir("d")
    os.mkdir("d/s1")
    os.mkdir("d/s2")
    os.mkdir("e")
    make("f", b"f")
    make("g", b"g")
    say("links of a folder with two", lambda: os.stat("d").st_nlink)
    say("rmdir of a full folder", lambda: os.rmdir("d"))
    say("unlink of a folder", lambda: os.unlink("d"))
    say("rmdir of .", lambda: os.rmdir("d/."))
    say("rmdir of ..", lambda: os.rmdir("d/s1/.."))
    say("rename of a folder below itself", lambda: os.rename("d", "d/s1/x"))
    say("rename over a full folder", lambda: os.rename("e", "d"))
    say("rename of a folder over a file", lambda: os.rename("e", "f"))
    say("rename of a file over a folder", lambda: os.rename("f", "e"))
    say("rename over an empty folder", lambda: os.rename("e", "d/s2"))
    say("links after it", lambda: os.stat("d").st_nlink)
    say("rename of nothing", lambda: os.rename("nothing", "h"))
    say("RENAME_NOREPLACE over a file", lambda: renameat2("f", "g", NOREPLACE))
    say("RENAME_NOREPLACE to a new name", lambda: renameat2("f", "f1", NOREPLACE))
    say("RENAME_EXCHANGE of files", lambda: (renameat2("g", "f1", EXCHANGE), open("f1").read()))
    say("RENAME_EXCHANGE of a folder and a file", lambda: (renameat2("d/s1", "g", EXCHANGE), os.path.isdir("g"), os.path.isfile("d/s1"), os.stat("d").st_nlink)[1:])
    say("RENAME_EXCHANGE with nothing", lambda: renameat2("d", "nothing", EXCHANGE))
    say("RENAME_EXCHANGE below itself", lambda: renameat2("d", "d/s2", EXCHANGE))
    say("RENAME_WHITEOUT", lambda: renameat2("f1", "h", 4))
    say("both flags", lambda: renameat2("d", "f1", NOREPLACE | EXCHANGE))
    say("a file as a folder", lambda: os.open("f1/x", os.O_RDONLY))
    say("O_DIRECTORY on a file", lambda: os.open("f1", os.O_RDONLY | os.O_DIRECTORY))
    say("O_NOFOLLOW on a symlink", lambda: os.open("sl1", os.O_RDONLY | os.O_NOFOLLOW))
    say("a folder for writing", lambda: os.open("d", os.O_WRONLY))
    say("read of a folder", lambda: opened("d", os.O_RDONLY, lambda f: os.read(f, 1)))
    say("O_EXCL on a file that is there", lambda: os.open("f1", os.O_CREAT | os.O_EXCL))
    say("O_EXCL on a symlink to nothing", lambda: os.open("sl1", os.O_CREAT | os.O_EXCL))
    say("link of a folder", lambda: os.link("d", "dd"))
    say("link of a symlink", lambda: (os.link("sl1", "sl", follow_symlinks=False), os.lstat("sl").st_nlink)[1])
    say("fifo", lambda: (os.mknod("fifo", 0o644 | stat.S_IFIFO), stat.S_ISFIFO(os.stat("fifo").st_mode))[1])
    say("device", lambda: (os.mknod("null", 0o644 | stat.S_IFCHR, os.makedev(1, 3)), write("null"))[1])
    say("device with large numbers", lambda: (os.mknod("bb", stat.S_IFBLK, os.makedev(259, 70000)), os.stat("bb").st_rdev == os.makedev(259, 70000))[1])
    say("socket", lambda: (socket.socket(socket.AF_UNIX).bind("sock"), stat.S_ISSOCK(os.stat("sock").st_mode))[1])


def orphans():
    make("o", b"12345")
    say("a file without a name", lambda: opened("o", os.O_RDWR, lambda f: (os.unlink("o"), os.fstat(f).st_nlink, os.read(f, 9), os.write(f, b"6"), os.fstat(f).st_size)[1:]))
    make("o")
    say("link of a file without a name", lambda: opened("o", os.O_RDWR, lambda f: (os.unlink("o"), link_open(f, "p"))))
    os.mkdir("gone")
    say("a folder without a name", lambda: opened("gone", os.O_RDONLY, lambda f: (os.rmdir("gone"), os.fstat(f).st_nlink, os.listdir(f))[1:]))
    os.mkdir("gone")
    say("a new file in it", lambda: opened("gone", os.O_RDONLY, lambda f: (os.rmdir("gone"), os.open("x", os.O_CREAT, dir_fd=f))))
    to = lambda name: lambda f: (os.fstat(f).st_nlink, link_open(f, name), os.fstat(f).st_nlink)[::2]
    say("O_TMPFILE", lambda: opened(".", os.O_TMPFILE | os.O_RDWR, to("tmp")))
    say("O_TMPFILE with O_EXCL", lambda: opened(".", os.O_TMPFILE | os.O_EXCL | os.O_RDWR, to("tmp2")))

    def by_handle(path):
        handle = handles.handle_of(path)
        return lambda: handles.opened(handle, handles.ino)

    by = by_handle("tmp")
    say("open by handle", lambda: by() == os.stat("tmp").st_ino)
    os.unlink("tmp")
    say("open by handle, after it is gone", by)

    def while_it_goes(name):
        by = by_handle(make(name))
        os.unlink(name)
        return said(by)

    # The deletion is under way when the handle is opened: it is found gone, or found and goes with the last close.
    say("open by handle, while it goes", lambda: {r for i in range(40) if not (r := while_it_goes(f"goes{i}")).isdigit()} <= {"ESTALE"})
    os.mkdir("many")
    for i in range(300):
        make(f"many/{i}")
    say("unlink of all while they are listed", lambda: (sum(1 for e in os.scandir("many") if os.unlink(e.path) is None), os.listdir("many")))


def sizes():
    f = os.open("big", os.O_CREAT | os.O_RDWR)
    for size in (1 << 40, (1 << 44) - 4096, 1 << 45, (1 << 63) - 1):
        say(f"truncate to {size}", lambda: (os.ftruncate(f, size), os.fstat(f).st_size)[1])
        say(f"write at {size}", lambda: os.pwrite(f, b"x", size))
    os.ftruncate(f, 0)
    # A node that is just asked for the file's lock gives the clusters back a moment later.
    say("blocks", lambda: eventually(lambda: os.fstat(f).st_blocks, 0))

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        with open("limited", "w+b", buffering=0) as g:
            return g.write(b"x" * 20000), said(lambda: g.write(b"x")), said(lambda: g.truncate(20000))

    say("RLIMIT_FSIZE", lambda: as_user(limited))
    make("sparse")
    s = os.open("sparse", os.O_RDWR)
    for at in (1, 3):
        os.pwrite(s, b"x" * 4096, at << 20)
    os.ftruncate(s, 4 << 20)
    seeks = [(0, SEEK_DATA), (0, SEEK_HOLE), (1 << 20, SEEK_HOLE), ((1 << 20) + 4096, SEEK_DATA), ((3 << 20) + 4096, SEEK_HOLE)]
    say("SEEK_DATA and SEEK_HOLE", lambda: [os.lseek(s, at, how) for at, how in seeks])
    say("SEEK_DATA behind the last", lambda: os.lseek(s, (3 << 20) + 4096, SEEK_DATA))
    say("SEEK_HOLE at the end", lambda: os.lseek(s, 4 << 20, SEEK_HOLE))
    say("blocks of a sparse file", lambda: os.fstat(s).st_blocks)
    for what, how in {"allocate": 0, "keep size": KEEP, "punch": PUNCH | KEEP, "zero": ZERO, "zero, keep size": ZERO | KEEP}.items():
        make("a", b"q" * (64 << 10))
        opened("a", os.O_RDWR, os.fsync)
        bytes_at = lambda at: opened("a", os.O_RDONLY, lambda f: os.pread(f, 1, at))
        say(f"fallocate, {what}", lambda: (fallocate("a", how, 8192, 128 << 10), os.stat("a").st_size, os.stat("a").st_blocks, bytes_at(8191), bytes_at(8192)))
    for what, args in {
        "collapse": (8, 0, 4096),
        "insert": (32, 0, 4096),
        "punch without keep size": (PUNCH, 0, 4096),
        "no length": (0, 0, 0),
        "behind all": (0, 0, 1 << 60),
        "over the end": (0, (1 << 63) - 1, (1 << 63) - 1),
        "more than there is": (0, 0, 1 << 34),
    }.items():
        say(f"fallocate, {what}", lambda: fallocate("a", *args))
    os.truncate("a", 100000)
    copy = lambda src, dst, n, s_off, d_off, how=os.O_RDWR: opened(src, os.O_RDWR, lambda x: opened(dst, how, lambda y: os.copy_file_range(x, y, n, s_off, d_off)))
    make("b")
    say("copy_file_range", lambda: (copy("a", "b", 1 << 20, 0, 0), os.stat("b").st_size))
    say("copy_file_range, ranges that overlap", lambda: copy("a", "a", 10000, 0, 5000))
    say("copy_file_range, one file", lambda: copy("a", "a", 10000, 0, 200000))
    say("copy_file_range, from behind the end", lambda: copy("a", "b", 1, 1 << 30, 0))
    say("copy_file_range, not for writing", lambda: copy("a", "b", 1, 0, 0, os.O_RDONLY))
    say("copy_file_range, for appending", lambda: copy("a", "b", 1, 0, 0, os.O_WRONLY | os.O_APPEND))
    say("copy_file_range, from a fifo", lambda: copy("fifo", "b", 1, 0, 0))
    make("p", b"1234")
    say("O_APPEND", lambda: (write("p", os.O_WRONLY | os.O_APPEND, b"56"), opened("p", os.O_WRONLY | os.O_APPEND, lambda f: os.pwrite(f, b"78", 0)), open("p").read())[2])
    d = os.open("direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    say("direct write", lambda: os.pwritev(d, [direct(8192)], 0))
    say("direct write, unaligned", lambda: os.pwritev(d, [direct(100, b"E")], 8150))
    say("direct read, unaligned", lambda: (os.preadv(d, [b := bytearray(200)], 8100), bytes(b).rstrip(b"\0").count(b"D"), b.count(b"E")))
    say("direct read behind the end", lambda: os.preadv(d, [direct(8192)], 1 << 20))
    v = os.open("vector", os.O_CREAT | os.O_RDWR)
    say("writev", lambda: (os.writev(v, [b"a", b"b" * 5000]), os.fstat(v).st_size))
    say("sendfile", lambda: opened("copy", os.O_CREAT | os.O_RDWR, lambda f: os.sendfile(f, v, 0, 5001)))
    say("fsync of a folder", lambda: opened("d", os.O_RDONLY, os.fsync))
    say("statvfs", lambda: (lambda s: (s.f_bsize, s.f_frsize, s.f_namemax))(os.statvfs(".")))
    reserve = lambda nr, at, n: opened("r", os.O_CREAT | os.O_RDWR, lambda f: (fcntl.ioctl(f, nr, struct.pack("<hhiqqiI16s", 0, 0, 0, at, n, 0, 0, bytes(16))), os.fstat(f).st_size, os.fstat(f).st_blocks)[1:])
    say("RESVSP64", lambda: reserve(0x4030582A, 0, 200000))
    say("UNRESVSP64", lambda: reserve(0x4030582B, 0, 100000))


def privileges():
    """Who changes a file without CAP_FSETID takes setuid and setgid away, at once also for who starts it."""
    tool = shutil.which("id")
    source = make("source", b"#" * 4096)
    changes = {
        "none": lambda p: None,
        "write": lambda p: write(p, os.O_WRONLY | os.O_APPEND),
        "direct write": lambda p: opened(p, os.O_RDWR | os.O_DIRECT, lambda f: os.pwritev(f, [direct(4096)], 1 << 20)),
        "truncate": lambda p: os.truncate(p, os.path.getsize(p) + 1),
        "fallocate": lambda p: fallocate(p, KEEP, 1 << 20, 4096),
        "punch": lambda p: fallocate(p, PUNCH | KEEP, 1 << 20, 4096),
        "copy_file_range": lambda p: opened(source, os.O_RDONLY, lambda a: opened(p, os.O_RDWR, lambda b: os.copy_file_range(a, b, 4096, 0, 1 << 20))),
    }
    for what, change in changes.items():
        p = make(f"su-{what.replace(' ', '-')}", open(tool, "rb").read(), 0o6777)
        os.stat(p)
        started = lambda: int(subprocess.check_output(["./" + p, "-u"]))
        said_of_it = as_user(lambda: (change(p), eventually(started, NOBODY) if CALLED_OFF and what != "none" else started())[1])
        say(f"setuid program after {what}", lambda: (said_of_it, mode(p)))
    for m in (0o6755, 0o6745, 0o4711):
        p = make("su", b"1234567", m, NOBODY, NOBODY)
        say(f"{m:o} written by its owner", lambda: (as_user(lambda: write(p)), mode(p))[1])
        p = make("su", b"1234567", m, NOBODY, NOBODY)
        say(f"{m:o} written by root", lambda: (write(p), mode(p))[1])
        p = make("su", b"1234567", m, NOBODY, NOBODY)
        say(f"{m:o} opened with O_TRUNC", lambda: (as_user(lambda: opened(p, os.O_WRONLY | os.O_TRUNC)), mode(p))[1])
        p = make("su", b"1234567", m, NOBODY, NOBODY)
        say(f"{m:o} given to another", lambda: (os.chown(p, 1, 1), mode(p))[1])
    p = make("su", b"", 0o644, NOBODY, 0)
    say("setgid of a group that is not one's own", lambda: (as_user(lambda: os.chmod(p, 0o2755)), mode(p)))
    p = make("su", b"1234567", 0o2746)
    say("setgid of group 0 written by one without groups", lambda: (as_user(lambda: write(p)), mode(p)))
    os.mkdir("sg")
    os.chown("sg", 0, 1234)
    os.chmod("sg", 0o2777)
    as_user(lambda: (opened("sg/f", os.O_CREAT | os.O_WRONLY), os.mkdir("sg/d"), os.symlink("x", "sg/l")))
    say("a setgid folder's children", lambda: [(os.lstat("sg/" + n).st_gid, os.lstat("sg/" + n).st_uid) for n in "fdl"] + [mode("sg/d")])
    os.mkdir("st")
    os.chmod("st", 0o1777)
    make("st/f")
    say("sticky: unlink", lambda: as_user(lambda: os.unlink("st/f")))
    say("sticky: rename", lambda: as_user(lambda: os.rename("st/f", "st/g")))
    capability = struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0)
    for what, change in {"write": write, "direct write": changes["direct write"], "truncate": lambda p: os.truncate(p, 1), "chown": lambda p: os.chown(p, 1, 1)}.items():
        p = make("cap", b"1234")
        os.setxattr(p, "security.capability", capability)
        say(f"file capabilities after {what}", lambda: (change(p), os.listxattr(p))[1])


def setid():
    """What each change leaves of setuid and setgid, by who makes it: one line for all modes."""
    owner, group = 1000, 2000
    source = make("source", b"#" * 4096, 0o644)
    data = b"1" * 8192

    def store(p):
        f = os.open(p, os.O_RDWR)
        with mmap.mmap(f, 4096) as m:
            m[0] = 65
            m.flush()
        os.close(f)

    changes = {
        "chown(-1, -1)": lambda p: os.chown(p, -1, -1),
        "chown(owner, -1)": lambda p: os.chown(p, owner, -1),
        "chown(-1, group)": lambda p: os.chown(p, -1, group),
        "chown(-1, own group)": lambda p: os.chown(p, -1, os.getegid()),
        "chmod": lambda p: os.chmod(p, os.stat(p).st_mode & 0o7777),
        "an ACL": lambda p: os.setxattr(p, "system.posix_acl_access", struct.pack("<IHHIHHIHHI", 2, 1, 7, 2**32 - 1, 4, 7, 2**32 - 1, 32, 7, 2**32 - 1)),
        "utime": lambda p: os.utime(p),
        "write": write,
        "direct write": lambda p: opened(p, os.O_RDWR | os.O_DIRECT, lambda f: os.pwritev(f, [direct(4096)], 0)),
        "truncate": lambda p: os.truncate(p, 1),
        "truncate to the same size": lambda p: os.truncate(p, 8192),
        "ftruncate": lambda p: opened(p, os.O_RDWR, lambda f: os.ftruncate(f, 1)),
        "O_TRUNC": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC),
        "fallocate": lambda p: fallocate(p, 0, 8192, 4096),
        "punch": lambda p: fallocate(p, PUNCH | KEEP, 0, 4096),
        "copy_file_range": lambda p: opened(source, os.O_RDONLY, lambda a: opened(p, os.O_RDWR, lambda b: os.copy_file_range(a, b, 4096, 0, 0))),
        "a store to a mapping": store,
    }
    who = {
        "root": (0, 0, []),
        "its owner": (owner, 1000, [1000]),
        "its owner, of the group": (owner, group, [group]),
        "its owner, also of the group": (owner, 1000, [1000, group]),
        "one of the group": (1001, group, []),
        "another": (1002, 1002, [1002]),
    }
    for what, change in changes.items():
        for name, (uid, gid, groups) in who.items():
            paths = [make(f"si{i}", data, m, owner, group) for i, m in enumerate((0o6777, 0o6767, 0o2775, 0o2765, 0o4766))]
            for p in paths:
                os.stat(p)
            errors = as_user(lambda: Said(" ".join(said(lambda: (change(p), None)[1]) for p in paths)), uid, gid, groups).split()
            left = [mode(p)[2:] if error == "None" else error for p, error in zip(paths, errors)]
            print(f"{what}, by {name}: {' '.join(left)}", flush=True)
    p = make("si0", data, 0o4755)
    os.setxattr(p, "security.capability", struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0))
    say("write by root to a file with setuid and capabilities", lambda: (write(p), mode(p))[1])


def times():
    g = make("t")
    say("times before 1970", lambda: (os.utime(g, (-1, -1)), os.stat(g).st_mtime)[1])
    say("times far ahead", lambda: (os.utime(g, ns=(2**33 * 10**9 + 7, 2**33 * 10**9 + 9)), os.stat(g).st_atime_ns, os.stat(g).st_mtime_ns)[1:])
    say("now, by another user", lambda: as_user(lambda: os.utime(g)))
    say("a time, by another user", lambda: as_user(lambda: os.utime(g, (1, 1))))

    def moved(path, fn):
        os.utime(path, (1, 1))
        fn()
        return os.stat(path).st_mtime > 1

    for what, fn in {"create": lambda: make("d/x"), "rename": lambda: os.rename("d/x", "d/y"), "unlink": lambda: os.unlink("d/y")}.items():
        say(f"mtime of a folder moves by {what}", lambda: moved("d", fn))
    for what, fn in {
        "write": lambda: write(g),
        "write of nothing": lambda: write(g, data=b""),
        "truncate": lambda: os.truncate(g, 0),
        "O_TRUNC": lambda: opened(g, os.O_WRONLY | os.O_TRUNC),
        "fallocate": lambda: fallocate(g, 0, 0, 10),
        "fallocate of what is there": lambda: fallocate(g, 0, 0, 10),
    }.items():
        say(f"mtime of a file moves by {what}", lambda: moved(g, fn))

    def ctime(fn):
        before = os.stat(g).st_ctime_ns
        # Clocks of file systems move a tick at a time.
        while time.time_ns() < before + 2 * 10**7:
            pass
        fn()
        return os.stat(g).st_ctime_ns > before

    for what, fn in {"chmod": lambda: os.chmod(g, 0o600), "chattr": lambda: flags(g, 0x40), "link": lambda: os.link(g, "t2"), "unlink": lambda: os.unlink("t2"), "rename": lambda: (os.rename(g, "t3"), os.rename("t3", g))}.items():
        say(f"ctime moves by {what}", lambda: ctime(fn))


def attributes():
    g = make("x")
    say("xattr", lambda: (os.setxattr(g, "user.a", b"1"), os.getxattr(g, "user.a"))[1])
    say("xattr without bytes", lambda: (os.setxattr(g, "user.e", b""), os.getxattr(g, "user.e"))[1])
    say("XATTR_CREATE", lambda: os.setxattr(g, "user.a", b"1", os.XATTR_CREATE))
    say("XATTR_REPLACE", lambda: os.setxattr(g, "user.b", b"1", os.XATTR_REPLACE))
    say("no such xattr", lambda: os.getxattr(g, "user.b"))
    say("remove no such xattr", lambda: os.removexattr(g, "user.b"))
    say("no such namespace", lambda: os.setxattr(g, "foo.a", b"1"))
    say("xattr name of 255", lambda: os.setxattr(g, "user." + "x" * 250, b"1"))
    say("xattr name of 256", lambda: os.setxattr(g, "user." + "x" * 251, b"1"))
    say("xattr of 64 KiB", lambda: (os.setxattr(g, "user.big", b"x" * 65536), len(os.getxattr(g, "user.big")))[1])
    say("xattr of more", lambda: os.setxattr(g, "user.big", b"x" * 65537))
    say("user xattr of a symlink", lambda: os.setxattr("sl1", "user.a", b"1", follow_symlinks=False))
    say("trusted xattr of a symlink", lambda: os.setxattr("sl1", "trusted.a", b"1", follow_symlinks=False))
    os.setxattr(g, "trusted.a", b"1")
    say("trusted xattr, by a user", lambda: as_user(lambda: os.getxattr(g, "trusted.a")))
    say("list", lambda: sorted(n for n in os.listxattr(g) if len(n) < 20))
    say("list, by a user", lambda: as_user(lambda: sorted(n for n in os.listxattr(g) if len(n) < 20)))

    acl = lambda entries: struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
    none = 0xFFFFFFFF
    allowed = acl([(1, 7, none), (2, 5, 1000), (4, 5, none), (16, 7, none), (32, 0, none)])
    a = make("acl", b"hello", 0o700)
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    say("ACL", lambda: (os.setxattr(a, access, allowed), mode(a), os.getxattr(a, access) == allowed)[1:])
    say("ACL lets one read", lambda: as_user(lambda: open(a).read(), 1000, 1000))
    say("ACL lets no other", lambda: as_user(lambda: open(a).read(), 1001, 1001))
    say("ACL lets him not write", lambda: as_user(lambda: open(a, "r+"), 1000, 1000))
    say("chmod changes the ACL's mask", lambda: (os.chmod(a, 0o740), os.getxattr(a, access)[36:38].hex())[1])
    say("ACL by another", lambda: as_user(lambda: os.setxattr(a, access, allowed)))
    say("an ACL that is none", lambda: os.setxattr(a, access, b"xx"))
    say("default ACL of a file", lambda: os.setxattr(a, default, allowed))
    os.mkdir("ad")
    os.setxattr("ad", default, allowed)
    os.umask(0o077)
    make_new = lambda: (opened("ad/f", os.O_CREAT | os.O_WRONLY), os.mkdir("ad/d"), mode("ad/f"), mode("ad/d"), os.getxattr("ad/d", default) == allowed)[2:]
    say("default ACL in place of the umask", make_new)
    os.umask(0o022)
    say("ACL taken away", lambda: (os.removexattr(a, access), os.listxattr(a), mode(a))[1:])


def chattr():
    f = make("fl", b"abc", 0o644, NOBODY, NOBODY)
    say("SETFLAGS by who is not the owner", lambda: as_user(lambda: flags(f, 0x40), 1, 1))
    say("SETFLAGS immutable by the owner", lambda: as_user(lambda: flags(f, IMMUTABLE)))
    say("SETFLAGS and GETFLAGS", lambda: (flags(f, 0x40 | 0x80), ioctl(f, GETFLAGS, bytes(8)))[1])
    say("FSGETXATTR", lambda: ioctl(f, FSGETXATTR, bytes(28))[:8])
    changes = {
        "write": lambda: write(f),
        "append": lambda: write(f, os.O_WRONLY | os.O_APPEND),
        "append with O_TRUNC": lambda: opened(f, os.O_WRONLY | os.O_APPEND | os.O_TRUNC),
        "truncate": lambda: os.truncate(f, 0),
        "unlink": lambda: os.unlink(f),
        "rename": lambda: os.rename(f, "fl2"),
        "rename over it": lambda: os.rename("p", f),
        "link": lambda: os.link(f, "fl2"),
        "chmod": lambda: os.chmod(f, 0o600),
        "chown": lambda: os.chown(f, 0, 0),
        "utime to a time": lambda: os.utime(f, (1, 1)),
        "utime to now": lambda: os.utime(f),
        "utime of mtime alone to now": lambda: call("utimensat", -100, f.encode(), struct.pack("<qqqq", 0, (1 << 30) - 2, 0, (1 << 30) - 1), 0),
        "setxattr": lambda: os.setxattr(f, "user.a", b"1"),
        "setfacl": lambda: os.setxattr(f, "system.posix_acl_access", struct.pack("<IHHIHHIHHI", 2, 1, 7, 2**32 - 1, 4, 5, 2**32 - 1, 32, 5, 2**32 - 1)),
        "fallocate": lambda: opened(f, os.O_WRONLY | os.O_APPEND, lambda d: call("fallocate", d, 0, 0, 10000)),
    }
    for what, value in {"immutable": IMMUTABLE, "append-only": APPEND}.items():
        say(f"SETFLAGS {what}", lambda: flags(f, value))
        for how, change in changes.items():
            say(f"{what}: {how}", change)
    late = os.open(f, os.O_RDWR | os.O_APPEND)
    # A FUSE file system is not asked about the first; so it is the write that is refused.
    say("append-only: write behind O_APPEND's back", lambda: (fcntl.fcntl(late, fcntl.F_SETFL, 0), os.pwrite(late, b"x", 0)))
    flags(f, 0)
    os.mkdir("imd")
    make("imd/f")
    changes = {
        "create": lambda: make("imd/g"),
        "unlink": lambda: os.unlink("imd/f"),
        "rename in": lambda: os.rename(make("in"), "imd/x"),
        "rename out": lambda: os.rename("imd/f", "y"),
        "rename within": lambda: os.rename("imd/f", "imd/h"),
        "mkdir": lambda: os.mkdir("imd/d"),
        "write of a file in it": lambda: write("imd/f"),
        "O_TMPFILE": lambda: opened("imd", os.O_TMPFILE | os.O_RDWR),
    }
    for what, value in {"immutable": IMMUTABLE, "append-only": APPEND}.items():
        say(f"SETFLAGS {what} on a folder", lambda: flags("imd", value))
        for how, change in changes.items():
            say(f"{what} folder: {how}", change)
    flags("imd", 0)


def locks():
    make("l")
    a, b = os.open("l", os.O_RDWR), os.open("l", os.O_RDWR)
    say("flock, exclusive", lambda: (fcntl.flock(a, fcntl.LOCK_EX), fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    say("flock, shared", lambda: (fcntl.flock(a, fcntl.LOCK_SH), fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    say("flock, to exclusive beside it", lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))
    fcntl.lockf(a, fcntl.LOCK_EX, 10, 0)
    other = lambda n, at: as_user(lambda: opened("l", os.O_RDWR, lambda f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, n, at)), 0, 0)
    say("fcntl lock in another's", lambda: other(5, 5))
    say("fcntl lock beside another's", lambda: other(5, 10))
    OFD_SETLK = 37
    lock = lambda at: struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, at, 10, 0)
    make("ofd")
    c, d = os.open("ofd", os.O_RDWR), os.open("ofd", os.O_RDWR)
    say("lock of an open file in another's", lambda: (fcntl.fcntl(c, OFD_SETLK, lock(0)), fcntl.fcntl(d, OFD_SETLK, lock(5))))
    shutil.copy(shutil.which("sleep"), "sleep")
    os.chmod("sleep", 0o755)
    running = subprocess.Popen(["./sleep", "60"])
    say("a program that runs, for writing", lambda: os.open("sleep", os.O_WRONLY))
    running.kill()
    running.wait()


os.chdir(sys.argv[1])
os.umask(0o022)
os.chmod(".", 0o777)
for part in (names, orphans, sizes, privileges, setid, times, attributes, chattr, locks):
    print(f"\n== {part.__name__}")
    part()
