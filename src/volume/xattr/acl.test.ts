/** ACLs: their algebra, inheritance by new inodes, and the mode that goes with them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../../test/support/volume.ts";
import { expectSound } from "../../../test/support/xattr_judge.ts";
import { Errno } from "../../lib/errno.ts";
import { wait } from "../../lib/task.ts";
import { setattr } from "../../vfs/file.ts";
import { create, lookup, mkdir, symlink } from "../../vfs/namespace.ts";
import { dinodeOf, type Inode, inodeLock } from "../inode.ts";
import {
  type Acl,
  aclFromXattr,
  aclToXattr,
  chmodAcl,
  getAcl,
  getxattr,
  initSecurity,
  listxattr,
  removexattr,
  setAcl,
  setxattr,
} from "./index.ts";
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_UNDEFINED_ID,
  ACL_USER,
  ACL_USER_OBJ,
  aclFromDisk,
  aclToDisk,
  checkAcl,
  chmodAclEntries,
  equivMode,
  inheritAcl,
} from "./posix_acl.ts";

const e = (tag: number, perm: number, id = ACL_UNDEFINED_ID) => ({ tag, perm, id });
const minimal = (mode: number): Acl => [
  e(ACL_USER_OBJ, (mode >> 6) & 7),
  e(ACL_GROUP_OBJ, (mode >> 3) & 7),
  e(ACL_OTHER, mode & 7),
];
/** user::u, user:1000:x, group::g, group:50:y, mask::m, other::o */
const extended = (u: number, x: number, g: number, y: number, m: number, o: number): Acl => [
  e(ACL_USER_OBJ, u),
  e(ACL_USER, x, 1000),
  e(ACL_GROUP_OBJ, g),
  e(ACL_GROUP, y, 50),
  e(ACL_MASK, m),
  e(ACL_OTHER, o),
];
const perm = fc.integer({ min: 0, max: 7 });
const anyAcl = fc
  .tuple(perm, perm, perm, perm, perm, perm, fc.boolean())
  .map(([u, x, g, y, m, o, long]) => (long ? extended(u, x, g, y, m, o) : minimal((u << 6) | (g << 3) | o)));
const errnoOf = (fn: () => void): number => {
  try {
    fn();
    return 0;
  } catch (err) {
    return (err as { errno: number }).errno;
  }
};

describe("ACLs without a disk", () => {
  test("both encodings give back what they were given", () => {
    fc.assert(
      fc.property(anyAcl, (acl) => {
        checkAcl(acl);
        expect(aclFromXattr(aclToXattr(acl))).toEqual(acl);
        expect(aclFromDisk(aclToDisk(acl), 1)).toEqual(acl);
        expect(aclToXattr(acl).length).toBe(4 + 8 * acl.length);
        expect(aclToDisk(acl).length).toBe(8 * acl.length);
      }),
    );
    expect(aclFromXattr(new Uint8Array([2, 0, 0, 0]))).toBeNull();
    expect(errnoOf(() => aclFromXattr(new Uint8Array([1, 0, 0, 0])))).toBe(Errno.EOPNOTSUPP);
    expect(errnoOf(() => aclFromXattr(new Uint8Array([2, 0, 0, 0, 1])))).toBe(Errno.EINVAL);
  });

  test("what is no ACL is refused", () => {
    const good = extended(7, 7, 5, 5, 7, 0);
    const bad: Acl[] = [
      [],
      good.slice(1),
      good.filter((x) => x.tag !== ACL_MASK),
      good.filter((x) => x.tag !== ACL_OTHER),
      [...good].reverse(),
      [...good, e(ACL_OTHER, 1)],
      good.map((x) => (x.tag === ACL_USER ? e(ACL_USER, 8, 1) : x)),
      good.map((x) => (x.tag === ACL_GROUP ? e(0x40, 1) : x)),
    ];
    for (const acl of bad) expect(errnoOf(() => checkAcl(acl))).toBe(Errno.EINVAL);
    checkAcl(good);
  });

  test("chmod makes the ACL's bits the mode's, and touches no named entry", () => {
    fc.assert(
      fc.property(anyAcl, fc.integer({ min: 0, max: 0o777 }), (acl, mode) => {
        const after = chmodAclEntries(acl, mode);
        expect(equivMode(after, 0o100000).mode).toBe(0o100000 | mode);
        expect(after.filter((x) => x.tag === ACL_USER || x.tag === ACL_GROUP)).toEqual(
          acl.filter((x) => x.tag === ACL_USER || x.tag === ACL_GROUP),
        );
      }),
    );
  });

  test("an inherited ACL and its mode agree and grant no more than was asked for", () => {
    fc.assert(
      fc.property(anyAcl, fc.integer({ min: 0, max: 0o7777 }), (acl, asked) => {
        const got = inheritAcl(acl, 0o100000 | asked);
        expect(got.mode & 0o777 & ~asked).toBe(0);
        expect(got.mode & ~0o777).toBe(0o100000 | (asked & ~0o777));
        const bits = equivMode(acl, 0).mode;
        expect(got.mode & 0o777).toBe(bits & asked & 0o777);
        if (got.acl !== null) expect(equivMode(got.acl, 0).mode).toBe(got.mode & 0o777);
      }),
    );
  });
});

describe.skipIf(!haveTool("mkfs.ocfs2"))("ACLs on a volume", { timeout: 60_000 }, () => {
  const CRED = { uid: 0, gid: 0, umask: 0o27 };
  const name = (text: string): Uint8Array => Buffer.from(text);
  const modeOf = (v: TestVolume, inode: Inode): number =>
    v.osb.runSync((op) => dinodeOf(op, inodeLock(op, inode)).i_mode & 0o7777);
  const ACCESS = "system.posix_acl_access";
  const DEFAULT = "system.posix_acl_default";

  test.each([
    ["4K", ["-b", "4K", "-C", "4K", "--fs-features=inline-data"]],
    ["1K", ["-b", "1K", "-C", "4K", "--fs-features=metaecc,noinline-data"]],
    ["512", ["-b", "512", "-C", "4K", "-J", "size=4M"]],
  ])("%s blocks: set, inherit, chmod, remove", (_, args: string[]) => {
    const image = mkfsImage(args, 64);
    const known = fsck(image).findings;
    let v = openImage(image);
    const make = (parent: number, text: string, how = create, mode = 0o666): Inode =>
      v.osb.inodes.get(v.osb.runSync((op) => how(op, parent, name(text), mode, CRED)).ino);
    const root = v.osb.geo.root_blkno;
    const dir = make(root, "dir", mkdir, 0o777);
    expect(modeOf(v, dir)).toBe(0o750);
    const acl = extended(7, 6, 5, 4, 7, 1);
    v.osb.runSync((op) => setxattr(op, dir, DEFAULT, aclToXattr(acl)));
    expect(v.osb.runSync((op) => getAcl(op, dir, "default"))).toEqual(acl);
    expect(modeOf(v, dir)).toBe(0o750);

    // The umask does not count below a default ACL.
    const file = make(dir.ino, "file");
    expect(modeOf(v, file)).toBe(0o660);
    expect(v.osb.runSync((op) => getAcl(op, file, "access"))).toEqual(extended(6, 6, 5, 4, 6, 0));
    expect(v.osb.runSync((op) => getAcl(op, file, "default"))).toBeNull();
    const sub = make(dir.ino, "sub", mkdir, 0o777);
    expect(modeOf(v, sub)).toBe(0o771);
    expect(v.osb.runSync((op) => getAcl(op, sub, "default"))).toEqual(acl);
    expect(v.osb.runSync((op) => getAcl(op, sub, "access"))).toEqual(acl);
    const outside = make(root, "outside");
    expect(modeOf(v, outside)).toBe(0o640);
    expect(v.osb.runSync((op) => listxattr(op, outside))).toEqual([]);

    // The mask follows chmod; the mode follows the ACL.
    v.osb.runSync((op) => {
      const bh = inodeLock(op, file, true);
      op.modify(bh);
      dinodeOf(op, bh).i_mode = 0o100604;
      chmodAcl(op, file);
    });
    expect(v.osb.runSync((op) => getAcl(op, file, "access"))).toEqual(extended(6, 6, 5, 4, 0, 4));
    v.osb.runSync((op) => setAcl(op, file, "access", extended(7, 7, 7, 7, 5, 4)));
    expect(modeOf(v, file)).toBe(0o754);
    v.osb.runSync((op) => setAcl(op, file, "access", minimal(0o421)));
    expect(modeOf(v, file)).toBe(0o421);
    expect(v.osb.runSync((op) => listxattr(op, file))).toEqual([]);
    v.osb.runTaskSync(wait((cb) => setattr(v.osb, file, { mode: 0o2755 }, cb)));
    v.osb.runSync((op) => setxattr(op, file, ACCESS, aclToXattr(minimal(0o750)), 0, { kill_sgid: true }));
    expect(modeOf(v, file)).toBe(0o750);

    // More entries than fit into a local value.
    const many: Acl = [
      e(ACL_USER_OBJ, 7),
      ...Array.from({ length: 200 }, (_, i) => e(ACL_USER, i & 7, i + 1)),
      e(ACL_GROUP_OBJ, 5),
      e(ACL_MASK, 7),
      e(ACL_OTHER, 0),
    ];
    v.osb.runSync((op) => setAcl(op, outside, "access", many));
    expect(v.osb.runSync((op) => aclFromXattr(getxattr(op, outside, ACCESS)!))).toEqual(many);

    const setting = (inode: Inode, type: "access" | "default", a: Acl): number =>
      errnoOf(() => v.osb.runSync((op) => setAcl(op, inode, type, a)));
    expect(setting(file, "default", acl)).toBe(Errno.EACCES);
    expect(setting(file, "access", acl.slice(1))).toBe(Errno.EINVAL);
    const link = v.osb.inodes.get(v.osb.runSync((op) => symlink(op, dir.ino, name("link"), name("target"), CRED)).ino);
    expect(setting(link, "access", acl)).toBe(Errno.EOPNOTSUPP);
    expect(v.osb.runSync((op) => listxattr(op, link))).toEqual([]);
    // Removing what is not there is no error for an ACL, and is one for other attributes.
    v.osb.runSync((op) => removexattr(op, file, ACCESS));
    expect(errnoOf(() => v.osb.runSync((op) => removexattr(op, file, "user.x")))).toBe(Errno.ENODATA);
    v.osb.runSync((op) => removexattr(op, dir, DEFAULT));
    expect(v.osb.runSync((op) => getxattr(op, dir, DEFAULT))).toBeUndefined();
    v.close();
    expectSound(image, known);
    v = openImage(image);
    expect(v.osb.runSync((op) => getAcl(op, v.osb.inodes.get(sub.ino), "default"))).toEqual(acl);
    v.close();
  });

  test("names, sizes and flags that setxattr(2) refuses", () => {
    const image = mkfsImage([], 64);
    const v = openImage(image);
    const inode = v.osb.inodes.get(v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, name("f"), 0o644, CRED)).ino);
    const set = (n: string, len = 1, flags = 0): number =>
      errnoOf(() => v.osb.runSync((op) => setxattr(op, inode, n, new Uint8Array(len), flags)));
    expect(set("")).toBe(Errno.ERANGE);
    expect(set(`user.${"x".repeat(251)}`)).toBe(Errno.ERANGE);
    expect(set(`user.${"x".repeat(250)}`)).toBe(0);
    expect(set("user.")).toBe(Errno.EINVAL);
    expect(set("system.other")).toBe(Errno.EOPNOTSUPP);
    expect(set("system.posix_acl_accessX")).toBe(Errno.EOPNOTSUPP);
    expect(set("nothing")).toBe(Errno.EOPNOTSUPP);
    expect(set("user.a", 65537)).toBe(Errno.E2BIG);
    expect(set("user.a", 65536)).toBe(0);
    expect(set("user.a", 1, 1)).toBe(Errno.EEXIST);
    expect(set("user.b", 1, 2)).toBe(Errno.ENODATA);
    expect(set("user.b", 1, 1)).toBe(0);
    expect(set("user.b", 2, 2)).toBe(0);
    expect(set("user.b", 2, 4)).toBe(Errno.EINVAL);
    v.osb.runSync((op) => {
      const bh = inodeLock(op, inode, true);
      op.modify(bh);
      dinodeOf(op, bh).i_attr = 0x10;
    });
    expect(set("user.c")).toBe(Errno.EPERM);
    expect(errnoOf(() => v.osb.runSync((op) => removexattr(op, inode, "user.b")))).toBe(Errno.EPERM);
    v.close();
    const nouser = openImage(image, { user_xattr: false, acl: false });
    const same = nouser.osb.inodes.get(inode.ino);
    expect(nouser.osb.runSync((op) => listxattr(op, same))).toEqual([]);
    expect(errnoOf(() => nouser.osb.runSync((op) => getxattr(op, same, "user.b")))).toBe(Errno.EOPNOTSUPP);
    expect(errnoOf(() => nouser.osb.runSync((op) => getxattr(op, same, ACCESS)))).toBe(Errno.EOPNOTSUPP);
    nouser.close();
  });

  test("a volume without the feature", () => {
    const v = openImage(mkfsImage(["--fs-features=noxattr"], 64));
    const inode = v.osb.inodes.get(v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, name("f"), 0o666, CRED)).ino);
    expect(modeOf(v, inode)).toBe(0o640);
    expect(errnoOf(() => v.osb.runSync((op) => listxattr(op, inode)))).toBe(Errno.EOPNOTSUPP);
    expect(errnoOf(() => v.osb.runSync((op) => setxattr(op, inode, "user.a", name("b"))))).toBe(Errno.EOPNOTSUPP);
    v.close();
  });

  test("security labels of a new inode", () => {
    const v = openImage(mkfsImage(["-b", "1K", "-C", "4K"], 64));
    v.osb.runSync((op) => {
      const { ino } = create(op, v.osb.geo.root_blkno, name("f"), 0o644, CRED);
      initSecurity(op, v.osb.inodes.get(ino), [{ name: "security.selinux", value: name("label") }]);
    });
    const { ino } = v.osb.runSync((op) => lookup(op, v.osb.geo.root_blkno, name("f"))!);
    expect(v.osb.runSync((op) => getxattr(op, v.osb.inodes.get(ino), "security.selinux"))).toEqual(
      new Uint8Array(name("label")),
    );
    v.close();
  });
});
