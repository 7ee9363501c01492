/**
 * What a client asks for of all events: channels, and perhaps events of some names alone.
 *
 * As with channels alone equal filters have equal keys, so that those who ask for the same thing
 * share its reads.
 */
import type { ChannelFilter } from './channel-filter.js';

/** Longest name of an event, in characters; the table's check says the same. */
export const MAX_EVENT_LENGTH = 255;
/** Most names that a client may ask for. */
export const MAX_EVENT_NAMES = 100;

export interface EventFilter extends ChannelFilter {
  /** Sorted names of events. Default: all. */
  readonly events?: readonly string[] | undefined;
}

/** Why a requested name can be none; `message` is fit for the client. */
export class EventNameError extends Error {
  override readonly name = 'EventNameError';
}

/**
 * Events of `channels` that have one of some names; of all names where there are none.
 *
 * @throws EventNameError for the first name that no event can have.
 */
export function eventFilter(channels: ChannelFilter, names: Iterable<string>): EventFilter {
  const events = [...new Set(names)].sort();
  if (events.length === 0) return channels;
  events.forEach(checkName);
  return { ...channels, events, key: `${channels.key} ${JSON.stringify(events)}` };
}

/** Whether an event of that name is wanted, on channels that are. */
export function wantsName({ events }: EventFilter, name: () => string): boolean {
  return events === undefined || events.includes(name());
}

function checkName(name: string): void {
  if (name === '') throw new EventNameError('An event name is empty. Name one, as in event=status.');
  if (name.length > 2 * MAX_EVENT_LENGTH || Array.from(name).length > MAX_EVENT_LENGTH) {
    throw new EventNameError(`An event name has at most ${MAX_EVENT_LENGTH} characters.`);
  }
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) {
    throw new EventNameError('An event name has no control characters.');
  }
}
