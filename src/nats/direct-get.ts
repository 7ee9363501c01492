/**
 * Direct gets in batches: messages of a stream, in order, from whichever of its servers is near. So
 * one that lags may answer, with fewer than there are.
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node';

export interface Gotten {
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** Bounds of one batch. At least one message comes, where there is any. */
const MOST_MESSAGES = 256;
const MOST_BYTES = 1024 * 1024;

/** Without a message for so long the answer is one that never ends. */
const TIMEOUT_MS = 5000;

const NO_MESSAGES = 404;
const END = 204;

/**
 * The messages from a sequence on; none: there is none.
 *
 * @param inbox where nobody else gets anything.
 *
 * @throws Error where the answer is a refusal, or breaks off before the first message.
 */
export function readBatch(nats: NatsConnection, stream: string, from: number, inbox: string): Promise<Gotten[]> {
  const query = JSON.stringify({ seq: from, batch: MOST_MESSAGES, max_bytes: MOST_BYTES });
  return new Promise((resolve, reject) => {
    const found: Gotten[] = [];
    const end = (error?: Error) => {
      clearTimeout(timer);
      subscription.unsubscribe();
      // What came before it broke off is in order, and without a gap.
      if (error && found.length === 0) reject(error);
      else resolve(found);
    };
    const late = () => end(new Error(`the stream ${stream} does not answer in time`));
    let timer = setTimeout(late, TIMEOUT_MS);
    const subscription = nats.subscribe(inbox, {
      callback(error, message) {
        if (error) return end(error);
        clearTimeout(timer);
        timer = setTimeout(late, TIMEOUT_MS);
        const sequence = Number(message.headers?.get('Nats-Sequence'));
        if (sequence > 0) found.push({ sequence, data: message.data });
        else end(refusal(message));
      },
    });
    nats.publish(`$JS.API.DIRECT.GET.${stream}`, query, { reply: inbox });
  });
}

/** Undefined: it is the end of the batch. */
function refusal({ headers }: Msg): Error | undefined {
  const code = headers?.code;
  if (code === END || code === NO_MESSAGES) return undefined;
  return new Error(`a direct get is refused: ${code ?? 'no code'} ${headers?.description ?? ''}`);
}
