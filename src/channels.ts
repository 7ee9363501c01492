/**
 * Channels, and what a client asks for of them.
 *
 * An interest is a normalised set of channels and prefixes: nothing in it is covered by anything else in it, and equal
 * sets have equal keys. So an event matches an interest at most once, and all connections that ask for the same thing
 * share the reads that are made for it.
 */

/** Longest channel name, in characters; the table's check `outbox_channel_length_1_to_255` says the same. */
export const MAX_CHANNEL_LENGTH = 255;

export interface Interest {
  /** Sorted channel names. */
  readonly channels: readonly string[];
  /** Sorted prefixes, each ending in `:`; or the one empty prefix, which is every channel. */
  readonly prefixes: readonly string[];
  /** Equal for equal interests. */
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
 * Builds the interest that a list of requested names describes: `orders` is that channel, `user:*` every channel that
 * starts with `user:`, and `*` every channel.
 *
 * @throws ChannelError for the first name that no channel and no pattern can have.
 */
export function interestIn(names: Iterable<string>): Interest {
  const channels = new Set<string>();
  const prefixes = new Set<string>();
  for (const name of names) {
    checkName(name);
    if (name === '*') prefixes.add('');
    else if (name.endsWith(':*')) prefixes.add(name.slice(0, -1));
    else channels.add(name);
  }
  const widest = [...prefixes].filter((prefix) => !coveredBy(prefixes, prefix, prefix.length - 1)).sort();
  const kept = new Set(widest);
  const exact = [...channels].filter((channel) => !coveredBy(kept, channel, channel.length)).sort();
  return { channels: exact, prefixes: widest, key: JSON.stringify([exact, widest]) };
}

/** Whether events of `channel` belong to the interest. */
export function matches(interest: Interest, channel: string): boolean {
  return interest.channels.includes(channel) || interest.prefixes.some((prefix) => channel.startsWith(prefix));
}

/** Whether everything that `wanted` matches, `allowed` matches too. */
export function contains(allowed: Interest, wanted: string): boolean {
  const pattern = interestIn([wanted]);
  const name = pattern.channels[0] ?? pattern.prefixes[0] ?? '';
  if (pattern.channels.length > 0) return matches(allowed, name);
  return allowed.prefixes.some((prefix) => name.startsWith(prefix));
}

/** Every prefix under which `channel` can be subscribed to, the empty one first: `a:b:c` has ``, `a:` and `a:b:`. */
export function prefixesOf(channel: string): string[] {
  const prefixes = [''];
  for (let at = channel.indexOf(':'); at !== -1; at = channel.indexOf(':', at + 1)) {
    prefixes.push(channel.slice(0, at + 1));
  }
  return prefixes;
}

/** Whether one of `prefixes`, no longer than `limit`, starts `name`. */
function coveredBy(prefixes: ReadonlySet<string>, name: string, limit: number): boolean {
  for (const prefix of prefixes) if (prefix.length <= limit && name.startsWith(prefix)) return true;
  return false;
}

function checkName(name: string): void {
  if (name === '') throw new ChannelError('empty', 'A channel name is empty. Name one, as in /events?channel=orders.');
  // A name is at most as many UTF-16 units as twice its characters, so the exact count is made only near the limit.
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
