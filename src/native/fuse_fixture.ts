/**
 * The smallest file system that can be mounted, for native.test.ts: a root with one file, "hello". It runs in a process of its own,
 * because a process that touches the mount that it serves waits for itself.
 *
 * Arguments: mount point, "mount2" or "fusermount". Says "mounted" on stdout, and ends when it is unmounted.
 */
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import * as native from "./index.ts";

const [mountpoint = "", how = ""] = process.argv.slice(2);
const CONTENTS = Buffer.from("hello from the arena\n");

const memory = new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true });
const u8 = new Uint8Array(memory.buffer);
const dv = new DataView(memory.buffer);
const arena = native.registerArena(u8);
const REQUEST = 0;
const REQUEST_LEN = 0x11_0000;
const REPLY = 0x12_0000;
const OUT = 16;

// include/uapi/linux/fuse.h
const LOOKUP = 1;
const FORGET = 2;
const GETATTR = 3;
const OPEN = 14;
const READ = 15;
const INIT = 26;

function attr(at: number, ino: number): void {
  dv.setBigUint64(at, BigInt(ino), true);
  dv.setBigUint64(at + 8, BigInt(ino === 1 ? 0 : CONTENTS.length), true);
  dv.setUint32(at + 60, ino === 1 ? 0o040755 : 0o100644, true);
  dv.setUint32(at + 64, 1, true);
  dv.setUint32(at + 80, 4096, true);
}

/** Fills in the body of a reply; its length, or -errno. */
function answer(opcode: number, nodeid: number, body: number): number {
  const out = REPLY + OUT;
  u8.fill(0, out, out + 256);
  switch (opcode) {
    case INIT:
      dv.setUint32(out, 7, true);
      dv.setUint32(out + 4, 31, true);
      dv.setUint32(out + 8, 65536, true);
      dv.setUint32(out + 20, 65536, true);
      return 64;
    case LOOKUP:
      if (Buffer.from(u8.subarray(body, body + 6)).toString() !== "hello\0") return -Errno.ENOENT;
      dv.setBigUint64(out, 2n, true);
      attr(out + 40, 2);
      return 128;
    case GETATTR:
      attr(out + 16, nodeid);
      return 104;
    case OPEN:
      return 16;
    case READ:
      u8.set(CONTENTS, out);
      return dv.getBigUint64(body + 8, true) === 0n ? CONTENTS.length : 0;
    default:
      return -Errno.ENOSYS;
  }
}

/** Serves the request in the arena and reads the next one; bytes read or -errno. */
function serve(fd: number): number {
  const opcode = dv.getUint32(REQUEST + 4, true);
  if (opcode === FORGET) return native.fuseRead(arena, fd, REQUEST, REQUEST_LEN);
  const len = answer(opcode, Number(dv.getBigUint64(REQUEST + 16, true)), REQUEST + 40);
  dv.setUint32(REPLY, OUT + Math.max(len, 0), true);
  dv.setInt32(REPLY + 4, Math.min(len, 0), true);
  dv.setBigUint64(REPLY + 8, dv.getBigUint64(REQUEST + 8, true), true);
  // One way of replying each, so that all are tried.
  if (opcode === READ) {
    check(native.fuseWritev(arena, fd, REPLY, OUT, REPLY + OUT, len), "reply in two pieces");
    return native.fuseRead(arena, fd, REQUEST, REQUEST_LEN);
  }
  const got = native.fuseReplyAndRead(arena, fd, REPLY, OUT + Math.max(len, 0), REQUEST, REQUEST_LEN);
  if (got <= native.REPLY_FAILED)
    throw new Error(`reply to opcode ${opcode} failed with errno ${native.REPLY_FAILED - got}`);
  return got;
}

function mount(): number {
  if (how === "fusermount")
    return check(native.fusermountMount(mountpoint, "fsname=ocfs2-test,default_permissions"), "fusermount");
  const fd = check(native.fuseOpen(), "open /dev/fuse");
  const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0`;
  check(native.mount2("ocfs2-test", mountpoint, "fuse", 0, data), "mount");
  return fd;
}

const fd = mount();
const ring = new native.Ring(8, u8);
process.stdout.write("mounted\n");
for (let got = -Errno.EAGAIN; got !== -Errno.ENODEV; ) {
  if (got === -Errno.EAGAIN) {
    ring.pollAdd(fd, native.POLLIN, 1);
    ring.submitAndWait(1);
    ring.reap();
    got = native.fuseRead(arena, fd, REQUEST, REQUEST_LEN);
  } else if (got === -Errno.ENOENT || got === -Errno.EINTR) {
    got = native.fuseRead(arena, fd, REQUEST, REQUEST_LEN);
  } else {
    got = serve(fd);
    check(got === -Errno.ENODEV || got === -Errno.EAGAIN || got === -Errno.ENOENT ? 0 : got, "read a request");
  }
}
ring.close();
native.closeFd(fd);
process.stdout.write("unmounted\n");
