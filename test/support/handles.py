"""File handles: "names" gives that of each path below the current directory, a line each; "opens" reads them and says what is there.

usage: handles.py names PATH… | handles.py opens < HANDLES
"""
import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def name(path):
    handle, mount = Handle(128), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    print(handle.type, bytes(handle.handle[: handle.bytes]).hex())


def opened(line):
    kind, text = line.split()
    raw = bytes.fromhex(text)
    handle = Handle(len(raw), int(kind), (ctypes.c_ubyte * 128)(*raw))
    here = os.open(".", os.O_RDONLY)
    f = libc.open_by_handle_at(here, ctypes.byref(handle), os.O_RDONLY)
    os.close(here)
    if f < 0:
        return os.strerror(ctypes.get_errno())
    said = f"{os.readlink(f'/proc/self/fd/{f}').removeprefix(os.getcwd()) or '/'} {os.fstat(f).st_ino}"
    os.close(f)
    return said


if sys.argv[1] == "names":
    for path in sys.argv[2:]:
        name(path)
else:
    for line in sys.stdin:
        print(opened(line))
