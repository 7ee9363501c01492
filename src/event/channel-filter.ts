/**
 * Channels, and what a client asks for of them.
 *
 * A filter is a normalised set of channels and prefixes: nothing in it is covered by anything else
 * in it, and equal sets have equal keys. So an event matches a filter at most once, and all
 * connections that ask for the same thing share the reads that are made for it.
 */

/**
 * Longest channel name, in characters; the table's check `outbox_channel_length_1_to_255` says the
 * same.
 */
export const MAX_CHANNEL_LENGTH = 255;

export interface ChannelFilter {
  /** Sorted channel names. */
  readonly channels: readonly string[];
  /** Sorted prefixes, each ending in `:`; or the one empty prefix, which is every channel. */
  readonly prefixes: readonly string[];
  /** Equal for equal filters. */
  readonly key: string;
}

/** Why a requested channel cannot be one; `message` is fit for the client. */
export class ChannelError extends Error {
  override readonly name = 'ChannelError';
  readonly code: 'empty' | 'too_long' | 'control_character' | 'asterisk';

  constructor(code: ChannelError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Builds the filter that a list of requested names describes: `orders` is that channel, `user:*`
 * every channel that starts with `user:`, and `*` every channel.
 *
 * @throws ChannelError for the first name that no channel and no pattern can have.
 */
export function channelFilter(names: Iterable<string>): ChannelFilter {
  const channels = new Set<string>();
  const prefixes = new Set<string>();
  for (const name of names) {
    checkName(name);
    if (name === '*') prefixes.add('');
    // Copied: a part of a string is compared several times slower than one of its own, and each is
    // compared for each event.
    else if (name.endsWith(':*')) prefixes.add(Buffer.from(name.slice(0, -1)).toString());
    else channels.add(name);
  }
  // In order, what a prefix covers comes right after it.
  const widest: string[] = [];
  for (const prefix of [...prefixes].sort()) if (!startsWithOne(prefix, widest)) widest.push(prefix);
  const exact = [...channels].filter((channel) => !startsWithOne(channel, widest)).sort();
  return { channels: exact, prefixes: widest, key: JSON.stringify([exact, widest]) };
}

/** Whether events of `channel` belong to the filter. What it costs hardly grows with the filter. */
export function matches({ channels, prefixes }: ChannelFilter, channel: string): boolean {
  return (channels.length > 0 && channels[lastUpTo(channel, channels)] === channel) || startsWithOne(channel, prefixes);
}

/**
 * Whether the filter matches everything that `pattern` does: a channel, a prefix as in `user:*`, or
 * `*`.
 *
 * @throws ChannelError where it is none of them.
 */
export function allows(filter: ChannelFilter, pattern: string): boolean {
  return covers(filter, channelFilter([pattern]));
}

/**
 * The same for a filter of one channel or prefix, for whoever asks it of many. One of nothing is
 * covered by none.
 */
export function covers(filter: ChannelFilter, wanted: ChannelFilter): boolean {
  const name = wanted.channels[0] ?? wanted.prefixes[0];
  if (name === undefined) return false;
  return wanted.channels.length > 0 ? matches(filter, name) : startsWithOne(name, filter.prefixes);
}

/** The names that describe a filter, sorted: channels, and prefixes as in `user:*`. */
export function namesOf({ channels, prefixes }: ChannelFilter): string[] {
  return [...channels, ...prefixes.map((prefix) => `${prefix}*`)].sort();
}

/**
 * Every prefix under which `channel` can be subscribed to, the empty one first: `a:b:c` has ``,
 * `a:` and `a:b:`.
 */
export function prefixesOf(channel: string): string[] {
  const prefixes = [''];
  for (let at = channel.indexOf(':'); at !== -1; at = channel.indexOf(':', at + 1)) {
    prefixes.push(channel.slice(0, at + 1));
  }
  return prefixes;
}

/**
 * Whether one of `prefixes`, which are sorted and do not cover each other, starts `name`: only the
 * last up to it can.
 */
function startsWithOne(name: string, prefixes: readonly string[]): boolean {
  const at = lastUpTo(name, prefixes);
  return at >= 0 && name.startsWith(prefixes[at] ?? name);
}

/** Index of the last of some sorted texts that is not after `text`; -1 where all are. */
function lastUpTo(text: string, sorted: readonly string[]): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? '') <= text) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function checkName(name: string): void {
  if (name === '') throw new ChannelError('empty', 'A channel name is empty. Name one, as in /events?channel=orders.');
  // A name is at most as many UTF-16 units as twice its characters, so the exact count is made only
  // near the limit.
  if (name.length > 2 * MAX_CHANNEL_LENGTH || Array.from(name).length > MAX_CHANNEL_LENGTH) {
    throw new ChannelError('too_long', `A channel name has at most ${MAX_CHANNEL_LENGTH} characters.`);
  }
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) {
    throw new ChannelError('control_character', 'A channel name has no control characters.');
  }
  const asterisk = name.indexOf('*');
  if (asterisk !== -1 && name !== '*' && !(name.endsWith(':*') && asterisk === name.length - 1)) {
    throw new ChannelError(
      'asterisk',
      'In a channel "*" stands alone (every channel) or last after a ":" (as in "user:*", every channel below "user:").',
    );
  }
}
