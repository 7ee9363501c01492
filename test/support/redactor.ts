/**
 * The redactor: takes back what events say, amid everything, and judges that nobody who connects after that gets what they said.
 */
import { lastingSession } from './lasting-session.js';
import type { Actor } from './actor.js';

/** How far behind the newest event, in events, one is redacted at most. */
const DEPTH = 300;
const PAUSE_MS = [20, 200] as const;

/** What was said stands in `text`; what settles the account of publishers stays. */
const REDACT = `
  UPDATE outbox SET data = jsonb_build_object('by', outbox.data->>'by', 'redacted', true)
  FROM (SELECT id, data->>'text' AS text FROM outbox WHERE position IS NOT NULL ORDER BY position DESC OFFSET $1 LIMIT 1) AS old
  WHERE outbox.id = old.id AND old.text IS NOT NULL
  RETURNING outbox.id, old.text`;

/** @param onRedacted called with what was said once it is taken back, an event each. */
export function createRedactor(onRedacted?: (text: string) => void): Actor {
  /** When each was committed at the latest, in milliseconds of `performance.now`. */
  const redactions = new Map<string, number>();
  const complaints: string[] = [];
  let checked = 0;
  return {
    async run({ random, shift, ...session }) {
      await lastingSession(
        { ...session, shift, onFailure: (text) => complaints.push(`a redaction failed: ${text}`) },
        async (client, isOpen) => {
          while (shift.isOn && isOpen()) {
            const { rows } = await client.query<{ id: string; text: string }>(REDACT, [random.integer(0, DEPTH)]);
            for (const { id, text } of rows) {
              redactions.set(id, performance.now());
              onRedacted?.(text);
            }
            await shift.pause(random.integer(...PAUSE_MS));
          }
        },
      );
    },
    onEvent(id, frame, connectedAt) {
      const redactedAt = redactions.get(id);
      if (redactedAt === undefined || connectedAt <= redactedAt) return;
      checked += 1;
      if (frame.includes('"redacted"')) return;
      const after = (connectedAt - redactedAt).toFixed(0);
      complaints.push(`a client that connected ${after} ms after the redaction of ${id} got the old data`);
    },
    complaints,
    figures: () => [
      ['events redacted', redactions.size],
      ['and got by who had connected later', checked],
    ],
  };
}
