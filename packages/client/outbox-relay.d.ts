export interface Options {
  /**
   * Listeners by the event's name: `message` for rows that name none, `stream-open`, `stream-reset` and the like for what the
   * relay says itself. Each gets what `EventSource` would give it. `open` and `error` are told of this tab's own connection, so
   * not where another tab reads; `error` has the status of a refusal.
   */
  on?: Readonly<Record<string, (event: MessageEvent<string>) => void>> & {
    readonly open?: (event: Event) => void;
    readonly error?: (event: Event & { readonly status?: number }) => void;
  };
  /** What was missed is gone: load the state anew, as with `reloadOnce`. The stream goes on from now. */
  onReset?: (reset: Reset) => void;
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
  /** Where events are dispatched, for listeners that come and go. Default: one of its own. */
  target?: EventTarget;
}

export interface Reset {
  /** The rows after the cursor may have been deleted; or no event ever had that id. */
  readonly reason: 'expired' | 'unknown';
  /** The cursor that can't be honoured. */
  readonly lastEventId: string;
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

/**
 * For `onReset`, or as a listener for `stream-reset`: loads the page anew. Not where this tab was loaded anew for the same
 * lost cursor before, because a cache had kept the page with it; and otherwise at once, but a minute after the last time at the
 * earliest.
 *
 * @returns whether it will. Without `sessionStorage` it never does.
 */
export function reloadOnce(reset: Reset | MessageEvent<string>): boolean;
