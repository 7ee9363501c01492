/**
 * What is made for whoever asks, kept for a while: many who ask at a time share one making.
 *
 * @param make never runs twice at a time, nor sooner than `keptMs` milliseconds after it was last
 * begun
 * @returns a function that resolves with what was made last, or is being made
 */
export function kept<T>(make: () => Promise<T>, keptMs: number): () => Promise<T> {
  let made: Promise<T> | undefined;
  let madeAt = -Infinity;
  let isMaking = false;
  return () => {
    if (made !== undefined && (isMaking || performance.now() - madeAt < keptMs)) return made;
    madeAt = performance.now();
    isMaking = true;
    made = make().finally(() => (isMaking = false));
    return made;
  };
}
