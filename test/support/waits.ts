/**
 * What a run waits for, by name: one that does not end can say why.
 */
export interface Waits {
  /** Passes the promise on, and names it for as long as it is pending. */
  on<T>(what: string, promise: Promise<T>): Promise<T>;
  /** The names of what is pending, that which was begun first ahead. */
  readonly pending: readonly string[];
}

export function createWaits(): Waits {
  const names = new Map<Promise<unknown>, string>();
  return {
    on(what, promise) {
      const named = promise.finally(() => names.delete(named));
      names.set(named, what);
      return named;
    },
    get pending() {
      return [...names.values()];
    },
  };
}
