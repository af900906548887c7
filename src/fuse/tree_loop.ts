/** Serves a tree in a thread's loop: reads /dev/fuse when there is something, until the mount is gone. */
import { POLLERR, POLLIN } from "../native/index.ts";
import type { Loop } from "../native/loop.ts";
import type { TreeServer } from "./tree_server.ts";

export function serveTree(loop: Loop, fd: number, server: TreeServer, gone: () => void): void {
  let readable = true;
  let armed = false;
  const stop = loop.addWork(() => {
    if (!readable) return false;
    if (!server.serve()) {
      stop();
      gone();
      return false;
    }
    readable = false;
    if (armed) return false;
    armed = true;
    const done = (): void => {
      armed = false;
      readable = true;
      loop.wake();
    };
    loop.ring.pollAdd(fd, POLLIN | POLLERR, loop.expect(done));
    return false;
  });
}
