/** OCFS2_LONG=1: tests that take minutes run, too. */
export const long = process.env["OCFS2_LONG"] === "1";
