/** The deletion of every event so far, after a question. So a cursor can expire here without waiting for retention. */
import { byId } from './elements.js';
import { post } from './relay.js';

/** How long the relay may take to open a stream, or to deliver an event. */
const PATIENCE_MS = 10_000;

/** Asks whether to delete. Resolves to false when the dialog is left in any other way. */
export function confirmForget() {
  const dialog = byId('forget-dialog');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'forget'), { once: true });
  });
}

/**
 * Deletes all events, such that every cursor handed out before the call is expired. Throws the Error of `post`.
 *
 * A cursor at the very last of the deleted rows has missed nothing, and is honoured. So let it miss one, and delete that
 * once it has been delivered: `onPublished` gets it as any other.
 */
export async function forgetEvents(onPublished) {
  const channel = 'orders';
  const text = `deleted a moment later (${Date.now()})`;
  const witness = new EventSource(`/events?channel=${channel}`);
  try {
    await heard(witness, 'stream-open');
    const delivered = heard(witness, 'message', text);
    const startedAt = performance.now();
    const { id } = await post('/publish', JSON.stringify({ channel, data: text }));
    onPublished([id], { channel, startedAt });
    await delivered;
  } finally {
    witness.close();
  }
  await post('/forget');
}

/** Resolves with the first event of that name, and with that data if given. */
function heard(source, name, data) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('The relay did not answer in time.')), PATIENCE_MS);
    source.addEventListener(name, (event) => {
      if (data !== undefined && event.data !== data) return;
      clearTimeout(late);
      resolve(event);
    });
  });
}
