/** What one client has handed to its application, and what it has asked the relay for, with when. */

export interface Message {
  /** `message` where the event has none. */
  readonly name: string;
  readonly id: string;
  readonly data: string;
  /** Milliseconds of the clock of `performance.now()`. */
  readonly at: number;
}

export interface Request {
  /** Undefined where it had no cursor. */
  readonly cursor: string | undefined;
  readonly at: number;
}

export interface Inbox {
  readonly messages: readonly Message[];
  readonly requests: readonly Request[];
  /** Why its program has ended, if it has. */
  readonly failure: string | undefined;
  take(message: Omit<Message, 'at'>): void;
  /** A piece of what it sent. */
  sent(chunk: Buffer): void;
  ended(why: string): void;
  /** Resolves with whether it came to hold within so many milliseconds. */
  until(holds: (inbox: Inbox) => boolean, milliseconds: number): Promise<boolean>;
}

export function createInbox(): Inbox {
  const messages: Message[] = [];
  const requests: Request[] = [];
  const waiters = new Set<() => void>();
  let failure: string | undefined;
  const changed = (): void => {
    for (const look of waiters) look();
  };
  const inbox: Inbox = {
    messages,
    requests,
    get failure() {
      return failure;
    },
    take(message) {
      messages.push({ ...message, at: performance.now() });
      changed();
    },
    sent(chunk) {
      const text = chunk.toString('latin1');
      const [, path = ''] = /^GET (\S+) HTTP/.exec(text) ?? [];
      if (!path.startsWith('/events')) return;
      // The last of the query counts, and the header before it.
      const query = [...path.matchAll(/[?&]last_?event_?id=([^&]*)/gi)].at(-1)?.[1];
      const header = /^last-event-id: *(.*?)\r?$/im.exec(text)?.[1];
      requests.push({ cursor: header ?? query, at: performance.now() });
      changed();
    },
    ended(why) {
      failure ??= why;
      changed();
    },
    until: (holds, milliseconds) =>
      new Promise((resolve) => {
        const done = (outcome: boolean): void => {
          waiters.delete(look);
          clearTimeout(timer);
          resolve(outcome);
        };
        const look = (): void => {
          if (holds(inbox)) done(true);
          else if (failure !== undefined) done(false);
        };
        const timer = setTimeout(() => done(false), milliseconds);
        waiters.add(look);
        look();
      }),
  };
  return inbox;
}
