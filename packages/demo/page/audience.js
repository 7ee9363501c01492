/** The subscribers on the page: two from the start, a third on request. It passes on what concerns them all. */
import { byId } from './elements.js';
import { createSubscriber } from './subscriber.js';

/** Over HTTP/1.1 a browser opens six connections to one host. Streams hold theirs, and publishing needs one. */
const MAX_SUBSCRIBERS = 3;

/** `eventNames` returns the names that a new connection is to listen for; `onDone` takes the names of steps. */
export function createAudience({ eventNames, onDone }) {
  const subscribers = new Map();
  const addButton = byId('add-subscriber');

  function expect(ids, row) {
    for (const subscriber of subscribers.values()) {
      for (const id of ids) subscriber.expect(id, row);
    }
  }

  function add(letter, initialChannels, removable = false) {
    const onRemove = () => {
      subscribers.delete(letter);
      addButton.hidden = false;
      addButton.focus();
    };
    const subscriber = createSubscriber({
      letter,
      initialChannels,
      removable,
      eventNames,
      onRemove,
      onDone,
      onPublished: expect,
    });
    subscribers.set(letter, subscriber);
    byId('subscribers').append(subscriber.element);
    addButton.hidden = subscribers.size >= MAX_SUBSCRIBERS;
    return subscriber;
  }

  addButton.addEventListener('click', () => {
    add('C', 'user:*', true).element.querySelector('input').focus();
  });

  add('A', 'orders');
  add('B', '*');
  return {
    listenFor(name) {
      for (const subscriber of subscribers.values()) subscriber.listenFor(name);
    },
    /** Holds every stream to the rows that were committed under `ids`. */
    expect,
    isSomeoneCut: () => [...subscribers.values()].some((subscriber) => subscriber.isClosed()),
  };
}
