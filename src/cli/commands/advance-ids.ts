/**
 * `advance-ids`: where the sequences go on.
 */
import { advanceIds } from '../../admin/advance-ids.js';
import { databaseUrl } from '../face/required.js';
import { safeJson } from '../terminal/terminal-text.js';

export async function runAdvanceIds({ by, json }: { readonly by: bigint; readonly json?: true }): Promise<void> {
  const advances = await advanceIds(databaseUrl('advance-ids', ', as the owner of the outbox'), by);
  if (json) {
    console.log(safeJson(advances));
    return;
  }
  for (const { sequence, from, to } of advances) console.log(`${sequence} goes on after ${to}; it was at ${from}`);
  console.log(`
If more than ${by} events can have been published since the copy that you restored, run it once more with --by.
Running relays need no restart. A client with the cursor of an event that was lost gets a stream-reset.`);
}
