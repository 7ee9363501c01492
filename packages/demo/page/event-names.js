/**
 * The event names that the page listens for. EventSource has no catch-all: an event is dispatched under its own name,
 * and without a listener for that name it is silently dropped. So the page listens for the usual names, and learns each
 * name that it is about to publish.
 */
import { byId } from './elements.js';

const USUAL = ['message', 'status', 'created', 'updated', 'deleted', 'progress'];

/** Calls `onLearn` with each name that is new, and keeps the list on the page up to date. */
export function createEventNames({ onLearn }) {
  const names = new Set(USUAL);

  function show() {
    byId('known-events').textContent = [...names].join(', ');
  }

  show();
  return {
    all: () => [...names],
    /** Has to come before the publish, or its event may arrive unheard. */
    learn(name) {
      if (name === '' || names.has(name)) return;
      names.add(name);
      onLearn(name);
      show();
    },
  };
}
