/** Sizes of the records that readdir and readdirplus return, in bytes. */
import { fuseRecAlign } from "./constants.ts";
import { FuseDirent, FuseDirentplus } from "./structs.ts";

/** A readdir record with a name of `namelen` bytes. */
export const fuseDirentSize = (namelen: number): number => fuseRecAlign(FuseDirent.fields.name.off + namelen);
/** A readdirplus record with a name of `namelen` bytes. */
export const fuseDirentplusSize = (namelen: number): number =>
  fuseRecAlign(FuseDirentplus.fields.dirent.off + FuseDirent.fields.name.off + namelen);
