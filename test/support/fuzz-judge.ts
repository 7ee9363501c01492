/**
 * Judges what a random request was answered with. It knows nothing of the relay but what its documentation says.
 */
import { anyCovers, PUBLIC } from './fuzz-truth.js';
import { ALLOWED_ORIGIN, type FuzzRequest } from './fuzz-request.js';
import { createUnchunker } from './chunks.js';
import type { Exchange } from './fuzz-client.js';

export interface Verdict {
  /** Undefined where there was no answer, which was then all right. */
  readonly status: number | undefined;
  readonly isStream: boolean;
  /** Whether a limit, or trouble, was told in the form for an EventSource. */
  readonly isSentAway: boolean;
  readonly events: number;
  readonly hasExpired: boolean;
  readonly violations: readonly string[];
  /** What of the answer is to be searched for secrets. */
  readonly shown: string;
}

/** Whatever a request is: these may come. The two of trouble have their own rules. */
const DOCUMENTED = new Set([200, 204, 400, 401, 403, 404, 405, 408, 431]);
const TROUBLE = new Set([429, 503]);
/** By how much the end of a right may be late: the tick of the relay's clock, the rest of its second, and a busy machine. */
const LATE_MS = 3_000;

const EVENT = /^id: (\d+)\n(?:event: [a-z]+\n)?data: (\{"(?:n": |id":").*\})$/;
const CONTROL = [
  /^(id: \d+\n)?event: stream-cursor\nretry: \d+\ndata: \{"lastEventId":.*\}$/,
  /^id: \d+\nevent: stream-open\nretry: \d+\ndata: \{"lastEventId":.*\}$/,
  /^id: \d+\nevent: stream-reset\ndata: \{"reason":.*\}$/,
] as const;
/** With a reset to follow: until that, no frame may move the client's cursor. */
const OPEN_BEFORE_RESET = /^event: stream-open\nretry: \d+\ndata: \{.*\}$/;
const RESET = /^id: \d+\nevent: stream-reset\n/;
const EXPIRED = /^event: stream-error\nretry: \d+\ndata: \{"condition":"expired",.*\}$/;
/** How a stream begins that is nothing but a pause, and the whole of it. */
const BUSY = /^event: stream-pause\n/;
const SENT_AWAY = /^event: stream-pause\nretry: \d+\ndata: \{"reason":"busy",.*\}\n\n$/;

/** @param mayBeFull whether the relay has limits so low that any request may meet them */
export function judge(request: FuzzRequest, { text, ...how }: Exchange, mayBeFull: boolean): Verdict {
  const violations: string[] = [];
  const result = { status: undefined, isStream: false, isSentAway: false, events: 0, hasExpired: false, shown: text };
  const answer = text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '');
  const headEnd = answer.indexOf('\r\n\r\n');
  if (headEnd === -1) {
    if (request.expected !== undefined && how.isWhole && how.hasWaited) violations.push('there was no answer');
    return { ...result, violations };
  }
  const head = answer.slice(0, headEnd);
  const bytes = answer.slice(headEnd + 4);
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
  const header = (name: string) => new RegExp(`^${name}: (.*)$`, 'im').exec(head)?.[1];
  const isEventStream = header('Content-Type')?.startsWith('text/event-stream') ?? false;
  const isEndless = isEventStream && header('Content-Length') === undefined && !request.isHead;
  const isChunked = isEndless && header('Transfer-Encoding') === 'chunked';
  // Random bytes may have made it a request in HTTP/1.0.
  if (isEndless && !isChunked && request.expected) violations.push('a stream that is not in chunks');
  const body = Buffer.from(isChunked ? judgeChunks(bytes, how, violations) : bytes, 'latin1').toString();
  const isSentAway = isEndless && BUSY.test(body);
  const isStream = isEndless && !isSentAway;

  const origin = header('Access-Control-Allow-Origin');
  if (origin !== undefined && origin !== ALLOWED_ORIGIN) violations.push(`the origin ${origin} was let in`);

  const expectsTrouble = request.expected?.includes(503) ?? false;
  const mayBeTrouble = request.takesPlace && (mayBeFull || expectsTrouble || request.expected === undefined);
  if (TROUBLE.has(status) || isSentAway) {
    if (!mayBeTrouble) violations.push(`there should be no trouble: ${status}`);
    if (isSentAway) {
      if (!request.acceptsStream && request.wanted) violations.push('sent away as an EventSource, which it is not');
      if (how.isWhole && how.isComplete && !SENT_AWAY.test(body))
        violations.push(`sent away with ${JSON.stringify(body)}`);
    } else {
      if (request.acceptsStream && request.wanted && !request.isHead) violations.push(`an EventSource got ${status}`);
      if (!/^[1-9]\d*$/.test(header('Retry-After') ?? '')) violations.push(`${status} without Retry-After`);
    }
  } else if (!DOCUMENTED.has(status)) {
    violations.push(`the status ${status} is none that is documented`);
  } else if (request.expected && how.isWhole && !request.expected.includes(status)) {
    // Who left with the head alone can't know whether it was sent away.
    const hasHeadAlone = request.isHead || (body === '' && how.endedBy === 'client');
    const isHeadSentAway = hasHeadAlone && isEventStream && mayBeTrouble;
    if (!isHeadSentAway) violations.push(`the status is ${status}, and should be ${request.expected.join(' or ')}`);
  }
  if (status >= 400 && !request.isHead && how.isWhole && how.hasWaited) {
    if (!isErrorBody(body) && !isPassedOn(body)) violations.push(`${status} with the body ${JSON.stringify(body)}`);
  }
  if (request.isPage && status === 200 && !isSentAway && !request.isHead && how.isWhole && how.hasWaited) {
    return { ...result, status, events: judgePage(request, body, violations), violations, shown: head };
  }
  if (!isStream) return { ...result, status, isSentAway, violations };

  const seen = judgeStream(request, body, how, violations);
  return { ...result, ...seen, status, isStream, violations, shown: head };
}

/** What is in the chunks. A stream never comes to an end: it breaks off, between two of them where that is the relay's doing. */
function judgeChunks(bytes: string, how: Omit<Exchange, 'text'>, violations: string[]): string {
  const unchunker = createUnchunker();
  let text = '';
  try {
    text = unchunker.take(bytes);
  } catch (error) {
    violations.push(String(error));
  }
  if (unchunker.isComplete) violations.push('a stream came to an end, and did not break off');
  if (how.isComplete && how.isWhole && !unchunker.isBetween) violations.push('it ended amid a chunk');
  return text;
}

/** What was published, by itself or in an envelope. */
function publishedIn(text: string): { readonly channel: string; readonly at: number } {
  const found = JSON.parse(text) as { channel: string; at: number; data?: { channel: string; at: number } };
  return found.data ?? found;
}

function judgeStream(
  request: FuzzRequest,
  body: string,
  how: Omit<Exchange, 'text'>,
  violations: string[],
): { events: number; hasExpired: boolean } {
  const frames = body.split('\n\n');
  const rest = frames.pop() ?? '';
  if (rest !== '' && how.isComplete && how.isWhole)
    violations.push(`it ended amid ${JSON.stringify(rest.slice(-200))}`);
  let events = 0;
  let hasExpired = false;
  for (const [index, frame] of frames.entries()) {
    if (hasExpired) violations.push(`after its end came ${JSON.stringify(frame.slice(0, 200))}`);
    if (CONTROL.some((form) => form.test(frame))) continue;
    if (OPEN_BEFORE_RESET.test(frame) && RESET.test(frames[index + 1] ?? rest)) continue;
    // It was cut off right there.
    if (OPEN_BEFORE_RESET.test(frame) && index === frames.length - 1 && !how.isComplete) continue;
    if (EXPIRED.test(frame)) {
      hasExpired = true;
      if (how.endedAt < request.expiresAt)
        violations.push(`its right ended ${request.expiresAt - how.endedAt} ms too early`);
      continue;
    }
    const data = EVENT.exec(frame)?.[2];
    if (data === undefined) {
      violations.push(`a frame that should not be: ${JSON.stringify(frame.slice(0, 300))}`);
      continue;
    }
    events += 1;
    const { channel, at } = publishedIn(data);
    if (!anyCovers([...PUBLIC, ...request.grants], channel)) violations.push(`it may not read ${channel}`);
    if (request.wanted && !anyCovers(request.wanted, channel)) violations.push(`it did not ask for ${channel}`);
    // It was published after the end, so it can't have been on the way before.
    if (at >= request.expiresAt)
      violations.push(`an event came ${at - request.expiresAt} ms after its right had ended`);
  }
  if (how.hasWaited && how.isWhole && how.endedBy === 'client' && how.endedAt > request.expiresAt + LATE_MS) {
    violations.push('its right has ended, and the stream has not');
  }
  return { events, hasExpired };
}

/** How many events are in it. */
function judgePage(request: FuzzRequest, body: string, violations: string[]): number {
  const { events, cursor, more } = JSON.parse(body) as {
    events: readonly { id: string; channel: string; data: { channel: string } }[];
    cursor: unknown;
    more: unknown;
  };
  if (typeof cursor !== 'string' || typeof more !== 'boolean')
    violations.push(`a page with ${JSON.stringify({ cursor, more })}`);
  for (const { channel, data } of events) {
    if (data.channel !== channel) violations.push(`an event of ${data.channel} on ${channel}`);
    if (!anyCovers([...PUBLIC, ...request.grants], channel)) violations.push(`it may not read ${channel}`);
    if (request.wanted && !anyCovers(request.wanted, channel)) violations.push(`it did not ask for ${channel}`);
  }
  return events.length;
}

function isErrorBody(body: string): boolean {
  try {
    const { error, message } = JSON.parse(body) as { error: unknown; message: unknown };
    return typeof error === 'string' && /^[a-z_]+$/.test(error) && typeof message === 'string' && message.length > 5;
  } catch {
    return false;
  }
}

/** The application's own refusal. */
function isPassedOn(body: string): boolean {
  return body === 'The application says no.';
}
