/** State outside of components, and how they read it. */
import { useEffect, useReducer } from 'preact/hooks';

export interface Store<State> {
  get(): State;
  set(change: Partial<State>): void;
  /** @returns what ends it */
  subscribe(listener: () => void): () => void;
}

export function createStore<State extends object>(initial: State): Store<State> {
  let state = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => state,
    set(change) {
      state = { ...state, ...change };
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The state, drawn anew when what is selected of it changes. */
export function useStore<State extends object, Selected>(
  store: Store<State>,
  select: (state: State) => Selected,
): Selected {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const selected = select(store.get());
  useEffect(() => {
    let before = select(store.get());
    if (before !== selected) redraw(undefined);
    return store.subscribe(() => {
      const now = select(store.get());
      if (now === before) return;
      before = now;
      redraw(undefined);
    });
    // The selection is a function of the state alone.
  }, [store]);
  return selected;
}
