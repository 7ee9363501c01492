/**
 * An event as `tail` prints it: for people, bounded and harmless to their terminal, whatever
 * somebody has published; or as JSON, whole and no less harmless.
 */
import type { Colours } from '../terminal/colours.js';
import { oneLine, severalLines } from '../terminal/terminal-text.js';

export interface ShownEvent {
  /** As it came; where a cursor leaves events out it has more than the id. */
  readonly id: string;
  /** Undefined: the relay does not tell. */
  readonly channel: string | undefined;
  readonly event: string;
  /** When the transaction began that published it, ISO 8601; undefined: the relay does not tell. */
  readonly createdAt: string | undefined;
  /** As a page gets it. */
  readonly data: string;
  /** The whole event. */
  readonly json: string;
}

/** Most characters and lines of data that are shown of an event. */
const SHOWN_CHARACTERS = 2000;
const SHOWN_LINES = 20;

/** Up to its data, which may have numbers with more digits than JavaScript keeps. */
const ENVELOPE =
  /^(\{"id":"[^"\\]+","channel":"(?:[^"\\]|\\.)*","created_at":"[^"\\]*","event":"(?:[^"\\]|\\.)*"),"data":/;

/** In an envelope, as relays send it that are asked for one; else as a stream has it. */
export function readEvent(id: string, event: string, data: string): ShownEvent {
  const [start, head] = ENVELOPE.exec(data) ?? [];
  if (start === undefined || head === undefined || event !== 'message') {
    return { id, channel: undefined, event, createdAt: undefined, data, json: JSON.stringify({ id, event, data }) };
  }
  const told = JSON.parse(`${head}}`) as Record<'id' | 'channel' | 'created_at' | 'event', string>;
  const published = data.slice(start.length, -1);
  return {
    id: told.id,
    channel: told.channel,
    event: told.event,
    createdAt: told.created_at,
    data: published.startsWith('"') ? (JSON.parse(published) as string) : published,
    json: data,
  };
}

/** A line of JSON, and whole. */
export const eventJson = ({ json }: ShownEvent): string => oneLine(json);

/**
 * What follows the first line of its data is moved in, so that nothing in it looks like another
 * event.
 *
 * @param isWhole all of it is shown, however much that is
 */
export function eventText(shown: ShownEvent, { dim, bold, cyan }: Colours, isWhole = false): string {
  const { id, channel, event, createdAt } = shown;
  const head = [
    ...(createdAt === undefined ? [] : [dim(clock(createdAt))]),
    ...(channel === undefined ? [] : [cyan(oneLine(channel))]),
    bold(oneLine(event)),
    dim(`#${oneLine(id)}`),
  ];
  const { data: text } = shown;
  const lines = text.slice(0, isWhole ? undefined : SHOWN_CHARACTERS).split(/\r\n|\r|\n/);
  const first = lines.slice(0, isWhole ? undefined : SHOWN_LINES);
  const isCut = !isWhole && (text.length > SHOWN_CHARACTERS || lines.length > SHOWN_LINES);
  const rest = isCut ? dim(`… ${Buffer.byteLength(text).toLocaleString('en')} bytes; --full shows all`) : '';
  const shownText = first.map(severalLines).join(`\n${dim('    |')} `);
  return `${head.join('  ')}  ${shownText}${rest === '' ? '' : `\n${dim('    |')} ${rest}`}\n`;
}

/** The time of day here, to the millisecond; the text itself where it is none. */
function clock(text: string): string {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return oneLine(text);
  const two = (value: number) => String(value).padStart(2, '0');
  const millis = String(time.getMilliseconds()).padStart(3, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${millis}`;
}
