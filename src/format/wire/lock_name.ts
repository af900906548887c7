/**
 * Lock names as they can be printed. A dentry lock's ends with an inode number in binary; the kernel shows the lower half of it in hexadecimal digits
 * (stringify_lockname, ocfs2_dlm_seq_show), and debugfs.ocfs2 takes names in this form.
 */
const INO_AT = 18;

export function printableLockName(name: string): string {
  if (name[0] !== "N" || name.length < INO_AT + 8) return name.replace(/[^\x20-\x7e]/g, ".");
  let low = 0;
  for (let i = INO_AT + 4; i < INO_AT + 8; i++) low = low * 256 + name.charCodeAt(i);
  return `${name.slice(0, INO_AT - 1)}${low.toString(16).padStart(8, "0")}`;
}
