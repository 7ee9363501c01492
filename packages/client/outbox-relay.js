/**
 * What `EventSource` cannot do, for pages: come back after a refusal, back off, and share one stream among all tabs. Its
 * types are in outbox-relay.d.ts.
 *
 * `cursor` is the id that this tab has got to. Who reads the stream for others tells them of each frame as a link: the
 * cursor before it, the cursor after it, and the event, if there is one. A link is a fact, "this follows `from`", whoever
 * says so and however late, and a tab takes it only where its own cursor is `from`: so nothing is missed and nothing comes
 * twice, whether the leader dies amid its messages or two speak at once. Ids have no order, so of a link that does not fit
 * it cannot be told whether the tab is ahead or behind. It then reads for itself until both are at the same id.
 *
 * | state       | own stream | at a link                         | and then                                                |
 * |-------------|------------|-----------------------------------|---------------------------------------------------------|
 * | asking      | no         | takes it, if it fits; any does where there is no cursor | following; catching up, if it doesn't fit or none comes |
 * | following   | no         | takes it, if it fits              | catching up, if it doesn't; asking, after a long silence |
 * | catching up | yes        | notes where the leader is         | following, as soon as both are at the same id           |
 * | leading     | yes, told to all | pays no heed                | stays so until the page goes                            |
 *
 * A Web Lock makes the leader. Every tab queues for it, in whatever state, and the browser passes it on when a tab goes, in
 * whatever way. The new leader reads on from its own cursor, with the stream that it has if it was catching up.
 *
 * A connection may die without a word, as when a network changes. The relay says how often it sends something at the least; a
 * connection on which several of these fail to come is cut, and the next goes on from the cursor, so a false alarm costs only that.
 */

/** How long the leader may take to answer, and how long it may be silent before it is asked, in milliseconds. */
const ANSWER = 1000;
const SILENCE = 30_000;
/** Pauses between attempts: what the relay says, but this at least; doubled up to the second; and what a timer can wait. */
const SHORTEST = 100;
const LONGEST = 60_000;
const UTMOST = 86_400_000;
/** The relay's heartbeats, in seconds, until it has told; how many of them may fail to come; the least, in milliseconds. */
const HEARTBEAT = 15;
const MISSED = 2.5;
const LEAST = 5000;
/** Between two loads of a page because of resets, in milliseconds; and for how many cursors it is known that they had one. */
const APART = 60_000;
const KNOWN = 20;
/** Asks the leader where it is. */
const WHERE = 0;

export function connect(
  url,
  {
    on = {},
    onReset,
    onRenew,
    lastEventId: cursor,
    share = true,
    withCredentials = false,
    target = new EventTarget(),
  } = {},
) {
  const address = new Request(url).url;
  const { locks } = navigator;
  // A cursor in the address is where one tab starts, though others have the same address.
  const shares = share && locks && self.BroadcastChannel && !/[?&](last.?event.?id|since)=/i.test(address);
  const over = new AbortController();
  let retry = 2000;
  // How long a connection may bring nothing, in milliseconds, and when it last brought something.
  let patience = HEARTBEAT * MISSED * 1000;
  let heardAt;
  // Ends the connection; undefined where there is none.
  let cut;
  let isLeading;
  let leaderAt;
  // Aborts this tab's own stream; undefined where there is none.
  let stream;
  let queue;
  let resign;
  let channel;
  let timer;

  function take({ to, event, data }) {
    cursor = to;
    // A listener that throws is reported, as it would be by EventSource, and stops nothing.
    if (data !== undefined) target.dispatchEvent(new MessageEvent(event, { data, lastEventId: to }));
  }

  function wait(next, milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(next, milliseconds);
  }

  function ask() {
    channel.postMessage(WHERE);
    wait(() => {
      // Where it was says nothing: it may hang.
      leaderAt = undefined;
      run();
    }, ANSWER);
  }

  function tell() {
    channel.postMessage({ from: cursor, to: cursor });
  }

  function hush() {
    stream?.abort();
    stream = undefined;
  }

  function meet() {
    if (cursor !== leaderAt) return;
    hush();
    wait(ask, SILENCE);
  }

  function hear({ data: link }) {
    if (link === WHERE) {
      if (!isLeading) return;
      // Timers of a tab that nobody sees may come a minute late: who waits for it looks for itself.
      if (cut && performance.now() - heardAt > patience) cut();
      else tell();
    } else if (!isLeading) {
      wait(ask, SILENCE);
      leaderAt = link.to;
      if (stream) meet();
      else if (cursor === undefined || cursor === link.from) take(link);
      else if (cursor !== leaderAt) run();
    }
  }

  /** What this tab's own stream brings. */
  function bring(to, event, data) {
    const link = { from: cursor, to, event, data };
    // First to the others: what our listeners do, closing included, is not their affair.
    if (isLeading) channel?.postMessage(link);
    take(link);
    if (!isLeading && stream) meet();
  }

  /** What EventSource would say of its connection; with the status, where that was why it was refused. */
  function announce(name, status) {
    target.dispatchEvent(Object.assign(new Event(name), { status }));
  }

  /** Reads to the end of the answer. A line ends with LF, CRLF or CR, and these two may come apart. */
  async function read(body, signal, onFrame, onPart) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let frame = {};
    let wasReturn;
    for (let part; !(part = await reader.read()).done;) {
      const lines = part.value.slice(wasReturn && part.value[0] === '\n').split(/\r\n?|\n/);
      wasReturn = part.value.endsWith('\r');
      lines[0] = rest + lines[0];
      rest = lines.pop();
      for (const line of lines) {
        const [, field, value] = /^([^:]*):? ?(.*)/s.exec(line);
        if (line) frame[field] = field === 'data' && 'data' in frame ? `${frame.data}\n${value}` : value;
        else {
          // The frame before may have brought us to where the leader is.
          if (signal.aborted) return;
          onFrame(frame);
          frame = {};
        }
      }
      onPart();
    }
  }

  async function run() {
    if (stream) return;
    const { signal } = (stream = new AbortController());
    let failures = 0;
    let isRenewed;
    while (!signal.aborted) {
      const attempt = new AbortController();
      const give = () => attempt.abort();
      let status;
      let watch;
      const onPart = () => {
        heardAt = performance.now();
        clearTimeout(watch);
        // In two steps: a page that slept first gets what has come meanwhile.
        watch = setTimeout(() => (watch = setTimeout(give, patience / 5)), patience * 0.8);
      };
      signal.addEventListener('abort', give, attempt);
      cut = give;
      onPart();
      try {
        const place = new URL(address);
        if (cursor !== undefined) place.searchParams.append('last_event_id', cursor);
        const answer = await fetch(place, {
          cache: 'no-store',
          credentials: withCredentials ? 'include' : 'same-origin',
          headers: { Accept: 'text/event-stream' },
          signal: attempt.signal,
        });
        if (answer.status === 200 && answer.headers.get('Content-Type')?.startsWith('text/event-stream')) {
          announce('open');
          await read(
            answer.body,
            attempt.signal,
            ({ id, event, data, retry: pause }) => {
              if (/^\d+$/.test(pause)) retry = Math.min(+pause, UTMOST);
              if (id) isRenewed = failures = 0;
              if (event === 'stream-open')
                patience = Math.max((JSON.parse(data).heartbeatSeconds || HEARTBEAT) * MISSED * 1000, LEAST);
              if (data !== undefined || (id && id !== cursor)) bring(id || cursor, event || 'message', data);
            },
            onPart,
          );
        } else {
          status = answer.status;
          announce('error', status);
          // What it takes to renew is not the relay's silence.
          clearTimeout(watch);
          cut = undefined;
          if (onRenew) {
            if ((await onRenew(status)) === false) close();
            // What was renewed is tried out at once, but not again and again.
            if (!isRenewed) {
              isRenewed = true;
              continue;
            }
          }
        }
      } catch {
        // Not reachable, cut off, silent, not wanted any more; or the hook has failed. All of it is tried again.
      } finally {
        clearTimeout(watch);
        attempt.abort();
        if (cut === give) cut = undefined;
      }
      if (signal.aborted) return;
      if (!status) announce('error');
      const pause = Math.max(retry, SHORTEST);
      const longer = Math.min(pause * 2 ** failures++, Math.max(pause, LONGEST));
      await new Promise((done) => setTimeout(done, longer * (1 + Math.random())));
    }
  }

  function start() {
    isLeading = !shares;
    if (!shares) return run();
    const name = `outbox-relay ${withCredentials} ${address}`;
    const { signal } = (queue = new AbortController());
    channel = new BroadcastChannel(name);
    channel.onmessage = hear;
    ask();
    const lead = (done) => {
      if (signal.aborted) return done();
      resign = done;
      isLeading = true;
      clearTimeout(timer);
      tell();
      run();
    };
    locks.request(name, { signal }, () => new Promise(lead)).catch(() => {});
  }

  function stop() {
    hush();
    clearTimeout(timer);
    channel?.close();
    queue?.abort();
    resign?.();
  }

  function close() {
    over.abort();
    stop();
  }

  for (const name in on) target.addEventListener(name, on[name]);
  if (onReset) target.addEventListener('stream-reset', ({ data }) => onReset(JSON.parse(data)));
  // A page that is kept for the back button must not lead, nor be one that others wait for.
  addEventListener('pagehide', stop, over);
  addEventListener('pageshow', ({ persisted }) => persisted && start(), over);
  start();
  return { close };
}

let isReloading;

/**
 * For a stream-reset: loads the page anew, unless it was loaded for the same lost cursor before, as where a cache keeps the page
 * with the cursor in it; and for others no more often than once a minute.
 */
export function reloadOnce({ data, lastEventId }) {
  const lost = data ? JSON.parse(data).lastEventId : lastEventId;
  const name = 'outbox-relay reloads';
  try {
    const { at = 0, cursors = [] } = JSON.parse(sessionStorage.getItem(name) || '{}');
    if (cursors.includes(lost)) return false;
    const now = Date.now();
    // A clock that was set back makes nobody wait for longer.
    const next = isReloading ? at : Math.min(Math.max(now, at + APART), now + APART);
    sessionStorage.setItem(name, JSON.stringify({ at: next, cursors: [...cursors, lost].slice(-KNOWN) }));
    isReloading ||= setTimeout(() => location.reload(), next - now);
    return true;
  } catch {
    // Nothing can be kept here: better once too few than without end.
    return false;
  }
}
