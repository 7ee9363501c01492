/** The deletion of every event so far, after a question. So a cursor can expire here without waiting for retention. */
import { byId } from './elements.js';
import { post } from './relay.js';

/** Ample time for the relay to have read a row that was just committed. */
const RELAY_READ_MS = 300;

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
 * A cursor at the very last of the deleted rows has missed nothing, and is honoured. So let it miss one, and let the
 * relay read that one before it is deleted. Nobody's ledger expects it.
 */
export async function forgetEvents() {
  await post('/publish', JSON.stringify({ channel: 'orders', data: 'deleted a moment later' }));
  await new Promise((resolve) => setTimeout(resolve, RELAY_READ_MS));
  await post('/forget');
}
