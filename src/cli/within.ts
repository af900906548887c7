/** What `promise` gives within `ms`, else `late`. The timer ends with it, so that a process may. */
export async function within<T, L>(ms: number, promise: Promise<T>, late: L): Promise<T | L> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<L>((ok) => {
    timer = setTimeout(ok, ms, late);
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}
