/** Extended attributes and POSIX ACLs: what the layers above use. Loading it gives making and wiping inodes their part. */
import { inode_hooks } from "../dir/inode_hooks.ts";
import { inheritAclHook } from "./acl.ts";
import { wipeXattrs } from "./wipe.ts";

export {
  type AclState,
  type AclType,
  chmodAcl,
  getAcl,
  initAcl,
  prepareAcl,
  setAcl,
} from "./acl.ts";
export { XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX, type XattrName } from "./name.ts";
export { type Acl, type AclEntry, aclFromXattr, aclToXattr } from "./posix_acl.ts";
export { initSecurity, type SecurityLabel } from "./security.ts";
export { getxattr, listxattr, listxattrBytes, removexattr, type SetxattrOptions, setxattr } from "./xattr.ts";
export { wipeXattrs };

inode_hooks.inheritAcl = inheritAclHook;
inode_hooks.removeXattrs = wipeXattrs;
