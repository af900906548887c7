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


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def handle_of(path):
    handle, mount = Handle(128), ctypes.c_int()
    checked(libc.name_to_handle_at(AT_FDCWD, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0))
    return handle


def opened(handle, use):
    """What `use` gives of a descriptor of the file, which must be of the current directory's file system."""
    here = os.open(".", os.O_RDONLY)
    try:
        f = checked(libc.open_by_handle_at(here, ctypes.byref(handle), os.O_RDONLY))
    finally:
        os.close(here)
    try:
        return use(f)
    finally:
        os.close(f)


def ino(f):
    return os.fstat(f).st_ino


def place(f):
    return f"{os.readlink(f'/proc/self/fd/{f}').removeprefix(os.getcwd()) or '/'} {ino(f)}"


def main():
    if sys.argv[1] == "names":
        for path in sys.argv[2:]:
            handle = handle_of(path)
            print(handle.type, bytes(handle.handle[: handle.bytes]).hex())
        return
    for line in sys.stdin:
        kind, text = line.split()
        raw = bytes.fromhex(text)
        print(opened(Handle(len(raw), int(kind), (ctypes.c_ubyte * 128)(*raw)), place))


if __name__ == "__main__":
    main()
