/**
 * What htmx's extensions for event streams lack, of htmx 2 and of htmx 4. To be loaded after htmx and its extension:
 * <script type="module" src="/outbox-relay-htmx.js"></script>
 *
 * htmx 2: where EventSource has given up the extension opens another at the address that the page came with, and what came in
 * between is swapped in twice. Here it gets, for EventSource, one over the relay's module, which never gives up.
 *
 * htmx 4 keeps its cursor itself. But it swaps the words of a refusal into the page, never comes back where its first request
 * failed, and does not notice a connection that died without a word.
 */
import { connect } from './outbox-relay.js';

/** As in the module: the relay's heartbeats, in seconds, until it has told; and how many of them may fail to come. */
const HEARTBEAT = 15;
const MISSED = 2.5;
const LEAST = 5000;
/** Between first requests that failed, in milliseconds: doubled from one to the other, and up to as much again, at random. */
const SHORTEST = 2000;
const LONGEST = 60_000;

const { htmx } = window;
if (!htmx)
  throw new Error(
    'outbox-relay-htmx.js: load htmx and its extension for event streams before this, and as `htmx` on window.',
  );
if (htmx.registerExtension) mendHtmx4();
else htmx.createEventSource = (url) => new LastingEventSource(url);

/** What of EventSource the extension of htmx 2 asks for. It is connecting or open until it is closed. */
class LastingEventSource extends EventTarget {
  readyState = EventSource.CONNECTING;
  onopen;
  onerror;
  #subscription;

  constructor(url) {
    super();
    this.url = url;
    let waits;
    this.addEventListener('open', (event) => {
      this.readyState = EventSource.OPEN;
      this.onopen?.(event);
    });
    this.addEventListener('error', (event) => {
      // One that was published has that name, too.
      if (event instanceof MessageEvent) return;
      this.readyState = EventSource.CONNECTING;
      waits = [];
      // Called amid the dispatch: what renews a right puts off the next try.
      event.waitUntil = (promise) => waits.push(promise);
      this.onerror?.(event);
    });
    this.#subscription = connect(url, {
      target: this,
      share: false,
      withCredentials: true,
      onRenew: () => Promise.allSettled(waits),
    });
  }

  close() {
    this.readyState = EventSource.CLOSED;
    this.#subscription.close();
  }
}

function mendHtmx4() {
  const failures = new WeakMap();
  const watches = new WeakMap();
  const addressOf = (element) =>
    element?.getAttribute('hx-sse:connect') ?? element?.getAttribute('data-hx-sse:connect') ?? undefined;

  /** Asks once more for a stream that never began. */
  function again(element) {
    const count = failures.get(element) ?? 0;
    failures.set(element, count + 1);
    const pause = Math.min(SHORTEST * 2 ** count, LONGEST) * (1 + Math.random());
    setTimeout(() => {
      const isWanted = element.isConnected && !element._htmx?.sse;
      if (isWanted) htmx.ajax('GET', addressOf(element), { source: element });
    }, pause);
  }

  function isFirst({ sourceElement } = {}) {
    return addressOf(sourceElement) !== undefined && !sourceElement._htmx?.sse;
  }

  /** In two steps: a page that slept first gets what has come meanwhile. */
  function watch(connection) {
    const state = watches.get(connection) ?? { patience: HEARTBEAT * MISSED * 1000 };
    watches.set(connection, state);
    clearTimeout(state.timer);
    const cut = () => connection.reader?.cancel();
    state.timer = setTimeout(() => (state.timer = setTimeout(cut, state.patience / 5)), state.patience * 0.8);
    return state;
  }

  document.addEventListener('htmx:before:response', (event) => {
    const { ctx } = event.detail;
    const { raw } = ctx.response;
    if (!isFirst(ctx) || raw.headers.get('Content-Type')?.includes('text/event-stream')) return;
    event.preventDefault();
    raw.body?.cancel();
    again(ctx.sourceElement);
  });
  document.addEventListener('htmx:error', ({ detail: { ctx } }) => {
    if (isFirst(ctx)) again(ctx.sourceElement);
  });
  document.addEventListener('htmx:sse:after:connection', ({ target, detail: { connection } }) => {
    failures.delete(target);
    watch(connection);
  });
  document.addEventListener('htmx:sse:before:message', ({ detail: { connection, message } }) => {
    const state = watch(connection);
    if (message.event === 'stream-open')
      state.patience = Math.max((JSON.parse(message.data).heartbeatSeconds || HEARTBEAT) * MISSED * 1000, LEAST);
  });
  document.addEventListener('htmx:sse:close', ({ detail: { connection } }) => {
    clearTimeout(watches.get(connection)?.timer);
  });
}
