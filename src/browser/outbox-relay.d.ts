export interface Options {
  /**
   * Listeners by the event's name: `message` for rows that name none, `stream-open`, `stream-reset` and `stream-error` for
   * what the relay says itself. Each gets what `EventSource` would give it.
   */
  on?: Readonly<Record<string, (event: MessageEvent<string>) => void>>;
  /** What was missed is gone: load the state anew. The stream goes on from now. */
  onReset?: (reset: { reason: 'expired' | 'unknown'; lastEventId: string }) => void;
  /**
   * The stream was refused, with this HTTP status. 401 asks for a new cookie: renew it, and return a promise of that. The
   * next try waits for it. `false` gives up. Only the tab that reads the stream is asked.
   */
  onRenew?: (status: number) => unknown;
  /** Starts after this event. Default: now, which in a shared stream is where that is. */
  lastEventId?: string;
  /** Whether all tabs with the same URL have one stream, where the browser can do that. Default: true. */
  share?: boolean;
  /** Whether cookies go to another origin, as with `EventSource`. Default: false. */
  withCredentials?: boolean;
}

export interface Subscription {
  /** Ends it; other tabs go on. */
  close(): void;
}

/**
 * Listens, until it is closed, and comes back after whatever happens.
 *
 * @param url relative to the page; tabs share a stream where it is the same
 */
export function connect(url: string | URL, options?: Options): Subscription;
