/**
 * One subscriber: its connection to /events, its cursor, and the check of what arrives. The states of the connection:
 *
 *   connecting    asked for, not yet opened       stream-open: live; an HTTP error: refused
 *   live          events arrive                   socket lost: reconnecting; "Cut off": cut
 *   reconnecting  EventSource retries by itself   stream-open: live; an HTTP error: refused; "Cut off": cut
 *   cut           closed by the reader            "Bring back": connecting, with ?last_event_id=<cursor>
 *   refused       EventSource gave up             "Bring back": connecting
 */
import { covers } from './channels.js';
import { confirmForget, forgetEvents } from './forget.js';
import { OVERDUE_MS, createLedger, judge } from './ledger.js';
import { createPanel } from './panel.js';
import { explainRefusal } from './relay.js';
import { watchReplay } from './replay.js';

const UNKNOWN_CURSOR = '999999999999';

/**
 * Connects at once. `eventNames()` is asked at each connection; names learnt later come through `listenFor`. `onDone` gets
 * the steps that are done here, and `onPublished` the row that is published to have a cursor expire.
 */
export function createSubscriber({ letter, initialChannels, removable, eventNames, onRemove, onDone, onPublished }) {
  const ledger = createLedger();
  const panel = createPanel({
    letter,
    initialChannels,
    removable,
    actions: {
      edit: refresh,
      reconnect,
      toggle: () => (isClosed() ? connect() : cutByReader()),
      comeBackExpired,
      comeBackUnknown: () => reconnect(UNKNOWN_CURSOR),
      remove,
    },
  });
  const { feed } = panel;
  let state;
  let source;
  let channels = [];
  /** The last id of any event, control events included. Null until the stream has opened for the first time. */
  let cursor = null;
  let replay;
  let wasReset = false;
  let received = 0;
  let replayed = 0;

  function connect(from = cursor) {
    channels = panel.readChannels();
    if (channels.length === 0) {
      panel.askForChannels();
      return;
    }
    ledger.narrow(channels);
    const query = new URLSearchParams(channels.map((channel) => ['channel', channel]));
    if (from !== null) query.append('last_event_id', from);
    const url = `/events?${query}`;
    panel.showRequest(url);

    source = new EventSource(url);
    source.addEventListener('open', () => {
      wasReset = false;
      feed.connected();
    });
    source.addEventListener('error', interrupted);
    source.addEventListener('stream-open', opened);
    source.addEventListener('stream-cursor', moved);
    source.addEventListener('stream-reset', reset);
    source.addEventListener('stream-error', failed);
    for (const name of eventNames()) listenFor(name);
    enter('connecting');
  }

  function listenFor(name) {
    source?.addEventListener(name, receive);
  }

  function opened(event) {
    const { lastEventId, head } = JSON.parse(event.data);
    cursor = event.lastEventId;
    if (wasReset) {
      // The reset has already told what became of the cursor.
    } else if (!ledger.isOpen()) {
      ledger.open();
      feed.note(`Opened at cursor ${cursor}`);
    } else {
      const tellReplayed = feed.back(lastEventId);
      replay?.stop();
      replay = watchReplay({
        from: lastEventId,
        head,
        onEnd(n) {
          tellReplayed(n);
          if (n > 0) onDone('resume');
        },
      });
    }
    enter('live');
  }

  /** A heartbeat: nothing for this subscriber up to there. */
  function moved(event) {
    cursor = event.lastEventId;
    refresh();
  }

  function reset(event) {
    const { reason, lastEventId } = JSON.parse(event.data);
    cursor = event.lastEventId;
    wasReset = true;
    replay?.stop();
    ledger.reset();
    // The figures begin anew, as the verdict does.
    received = replayed = 0;
    feed.reset({ reason, lastEventId, cursor });
    onDone('reset');
    enter('live');
  }

  function failed(event) {
    const { condition, text } = JSON.parse(event.data);
    feed.problem(`stream-error: ${condition}. ${text}`);
  }

  function receive(event) {
    // An event may be named "error" or "open", as EventSource's own plain events are.
    if (!(event instanceof MessageEvent)) return;
    const id = event.lastEventId;
    const isReplayed = replay?.take(id) ?? false;
    cursor = id;
    received += 1;
    if (isReplayed) replayed += 1;
    ledger.arrive(id);
    feed.event(event, isReplayed);
    refresh();
  }

  function interrupted(event) {
    if (event instanceof MessageEvent) return;
    replay?.stop();
    if (source.readyState === EventSource.CLOSED) {
      enter('refused');
      void explainRefusal(source.url).then((message) => feed.problem(`Refused. ${message}`));
      return;
    }
    if (cursor !== null) feed.broken(`Connection lost at cursor ${cursor}`);
    enter('reconnecting');
  }

  function cut() {
    replay?.stop();
    source.close();
    if (cursor !== null) feed.broken(`Cut at cursor ${cursor}`);
    enter('cut');
  }

  function cutByReader() {
    cut();
    onDone('cut');
  }

  function reconnect(from = cursor) {
    if (state !== 'cut') cut();
    connect(from);
  }

  async function comeBackExpired() {
    if (!(await confirmForget())) return;
    cut();
    try {
      await forgetEvents(onPublished);
    } catch (error) {
      feed.problem(`The events were not deleted. ${error.message}`);
    }
    connect();
  }

  function remove() {
    source.close();
    replay?.stop();
    panel.element.remove();
    onRemove();
  }

  /** Holds the stream to a row that this page has published. While the stream is cut its channels may yet change. */
  function expect(id, row) {
    if (!isClosed() && !covers(channels, row.channel)) return;
    ledger.expect(id, row);
    refresh();
    setTimeout(refresh, OVERDUE_MS + 50);
  }

  function isClosed() {
    return state === 'cut' || state === 'refused';
  }

  function enter(next) {
    state = next;
    refresh();
  }

  function refresh() {
    const verdict = judge(ledger.tally(channels), state === 'live');
    panel.show({ state, isClosed: isClosed(), cursor, received, replayed, channels, verdict });
  }

  connect();
  return { element: panel.element, isClosed, listenFor, expect };
}
