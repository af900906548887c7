/**
 * Names as the lock manager and the kernel have them: bytes, one character each. Two texts that differ must differ in what goes over the wire, too, or two
 * nodes would each have "the" lock.
 */

/** The UTF-8 of a text. */
export const byteName = (text: string): string => Buffer.from(text, "utf8").toString("latin1");

/** The text that a name is the UTF-8 of. */
export const textOfName = (name: string): string => Buffer.from(name, "latin1").toString("utf8");

/** Whether each character is a byte. */
export const isByteName = (name: string): boolean => /^[\0-\xff]*$/.test(name);
