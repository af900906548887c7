"""Holds the FUSE connections of a process, as a thread of it does that the kernel does not let go: hold_fuse.py PID. Says "held", and ends with its input."""
import ctypes
import os
import sys

SYS_PIDFD_GETFD = 438
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open(pid)
held = 0
for fd in os.listdir(f"/proc/{pid}/fd"):
    try:
        if os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/fuse" and libc.syscall(SYS_PIDFD_GETFD, pidfd, int(fd), 0) >= 0:
            held += 1
    except FileNotFoundError:
        pass
if held == 0:
    sys.exit(f"process {pid} has no FUSE connection")
print("held", flush=True)
sys.stdin.read()
