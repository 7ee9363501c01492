/**
 * Explores all states of a model, breadth first, so that the way to the first broken one is the shortest.
 */
import { setImmediate } from 'node:timers/promises';

/** One kind of thing that can happen. */
export interface Action<State> {
  /** In words, with `#` for the actor. */
  readonly words: string;
  /** How many may do it: it is tried for each of 0 to n - 1. */
  readonly actors: number;
  /** The states that may follow; empty: it can't happen now. States are never changed in place. */
  next(state: State, actor: number): readonly State[];
}

export interface Model<State> {
  readonly initial: State;
  readonly actions: readonly Action<State>[];
  /** The same for states that differ only in what can't matter. */
  key(state: State): string;
  /** What is broken in a state; undefined: nothing. */
  broken(state: State): string | undefined;
  /** Whether nobody has anything left to do: counted, to show that such states are reached. */
  isRest(state: State): boolean;
}

export interface Exploration {
  readonly states: number;
  /** How many of them are at rest. */
  readonly rests: number;
  /** The shortest way to what is broken, in words; undefined: nothing is. */
  readonly trace: readonly string[] | undefined;
}

/** @throws an Error when there are more states than `most`, which would take too long to be of use. */
export async function explore<State>(model: Model<State>, most: number): Promise<Exploration> {
  const { initial, actions } = model;
  const seen = new Map([[model.key(initial), 0]]);
  const parents = [0];
  let rests = 0;
  let layer: (readonly [number, State])[] = [[0, initial]];
  while (layer.length > 0) {
    const following: typeof layer = [];
    for (const [index, state] of layer) {
      if (model.broken(state) !== undefined) {
        return { states: seen.size, rests, trace: retrace(model, [...seen.keys()], parents, index) };
      }
      if (model.isRest(state)) rests += 1;
      for (const { actors, next } of actions) {
        for (let actor = 0; actor < actors; actor += 1) {
          for (const after of next(state, actor)) {
            const key = model.key(after);
            if (seen.has(key)) continue;
            following.push([seen.size, after]);
            seen.set(key, seen.size);
            parents.push(index);
          }
        }
      }
    }
    if (seen.size > most) throw new Error(`the model has more than ${most} states`);
    layer = following;
    await setImmediate();
  }
  return { states: seen.size, rests, trace: undefined };
}

/** Goes the way once more, because a key does not say who is who. */
function retrace<State>(
  model: Model<State>,
  keys: readonly string[],
  parents: readonly number[],
  end: number,
): string[] {
  const way: number[] = [];
  for (let index = end; index !== 0; index = parents[index] ?? 0) way.unshift(index);
  let state = model.initial;
  const words: string[] = [];
  for (const index of way) {
    const step = stepTo(model, state, keys[index] ?? '');
    words.push(step.words);
    ({ state } = step);
  }
  return [...words, `broken: ${model.broken(state) ?? ''}`];
}

function stepTo<State>({ actions, key }: Model<State>, state: State, target: string): { words: string; state: State } {
  for (const { words, actors, next } of actions) {
    for (let actor = 0; actor < actors; actor += 1) {
      const found = next(state, actor).find((after) => key(after) === target);
      if (found) return { words: words.replace('#', String(actor + 1)), state: found };
    }
  }
  throw new Error('a state was reached by no action');
}
