/**
 * `tail`: what a relay's stream brings, printed as it comes.
 */
import { readConfig } from '../../config/config.js';
import { channelFilter, ChannelError } from '../../event/channel-filter.js';
import { OperatorError } from '../../operator-error.js';
import { interruption } from '../face/interruption.js';
import { relayUrl, tokenSource } from '../relay/access.js';
import { follow, type FollowOptions, type Received } from '../relay/stream.js';
import { coloursFor } from '../terminal/colours.js';
import { openOutput } from '../terminal/output.js';
import { oneLine, safeJson } from '../terminal/terminal-text.js';
import { eventJson, eventText, readEvent } from './event-text.js';

interface TailOptions {
  readonly url?: string;
  readonly token?: string;
  readonly from: FollowOptions['from'];
  readonly event?: readonly string[];
  readonly limit?: number;
  readonly full?: true;
  readonly json?: true;
}

export async function runTail(channels: readonly string[], options: TailOptions): Promise<void> {
  requireChannels(channels);
  const config = readConfig(process.env);
  const { event: events = [], limit = Infinity, json } = options;
  const output = openOutput();
  const ended = new AbortController();
  const signal = AbortSignal.any([interruption(), output.left, ended.signal]);
  const colours = coloursFor(process.stdout);
  const textOf = (received: Received & { kind: 'event' }): string | undefined => {
    const shown = readEvent(received.id, received.event, received.data);
    // A relay that does not know the filter sends all.
    if (events.length > 0 && !events.includes(shown.event)) return undefined;
    return json ? `${eventJson(shown)}\n` : eventText(shown, colours, options.full);
  };

  let printed = 0;
  const url = relayUrl(options.url, config);
  const stream = follow({
    url,
    channels,
    events,
    from: options.from,
    token: tokenSource(options.token, channels, config),
    signal,
    onChange: (state) =>
      console.error(state === 'back' ? 'It is back: going on.' : `${state.lost} Going on when it is back …`),
  });
  for await (const received of stream) {
    if (received.kind === 'open') {
      if (process.stderr.isTTY) console.error(`Listening at ${url}. Ctrl-C ends.`);
    } else if (received.kind === 'reset') {
      const { kind, ...reset } = received;
      if (json) await output.print(`${safeJson({ [kind]: reset })}\n`);
      else console.error(resetText(received));
    } else {
      const text = textOf(received);
      if (text === undefined) continue;
      await output.print(text);
      printed += 1;
      if (printed >= limit) ended.abort();
    }
    if (signal.aborted) break;
  }
}

function resetText({ reason, lastEventId, cursor }: Received & { kind: 'reset' }): string {
  const why =
    reason === 'expired'
      ? `what followed event ${oneLine(lastEventId)} has been deleted`
      : `no event here ever had the id ${oneLine(lastEventId)}`;
  return `warning: ${why}. Going on after ${oneLine(cursor)}: what came between is not shown.`;
}

/** @throws OperatorError `usage` for what can be none, which the relay would refuse as well */
function requireChannels(channels: readonly string[]): void {
  try {
    channelFilter(channels);
  } catch (error) {
    if (error instanceof ChannelError) throw new OperatorError('usage', error.message, { cause: error });
    throw error;
  }
}
