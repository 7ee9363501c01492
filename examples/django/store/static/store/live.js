/**
 * The page's stream: one EventSource, that outlives what EventSource gives up at.
 *
 * It comes back by itself while its token is good. A status other than 200, as when the token had ended, is final for it: then this
 * gets a new token and opens another, at the last event that was seen; or leaves for the log-in, where there is nobody any more.
 */
const PAUSE_MS = 1500;

/** @param {string} url @param {Record<string, (data: any) => void>} handlers by event; data is what was published */
export function listen(url, handlers) {
  const state = document.querySelector('#live');
  const tokenUrl = document.querySelector('[data-token-url]').dataset.tokenUrl;
  let last;
  let source;

  function open() {
    const address = new URL(url, location.href);
    if (last !== undefined) address.searchParams.set('last_event_id', last);
    source = new EventSource(address);
    // The relay's own, which a proxy that answers for it does not send.
    source.addEventListener('stream-open', () => show('live', 'Live'));
    source.addEventListener('error', () => {
      show('away', 'Reconnecting');
      if (source.readyState === EventSource.CLOSED) setTimeout(reopen, PAUSE_MS);
    });
    source.addEventListener('stream-reset', (event) =>
      import('/outbox-relay.js').then(({ reloadOnce }) => reloadOnce(event)),
    );
    // Heartbeats: a page that gets nothing for long has passed what was for others, too.
    source.addEventListener('stream-cursor', ({ lastEventId }) => (last = lastEventId || last));
    source.addEventListener('logged-out', leave);
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, ({ data, lastEventId }) => {
        last = lastEventId;
        handle(JSON.parse(data));
      });
    }
  }

  async function reopen() {
    const answer = await fetch(tokenUrl).catch(() => undefined);
    if (answer?.status === 401) leave();
    else if (answer?.ok) open();
    else setTimeout(reopen, PAUSE_MS);
  }

  function leave() {
    source.close();
    location.assign(document.body.dataset.logIn);
  }

  function show(name, words) {
    state.dataset.state = name;
    state.firstElementChild.textContent = words;
  }

  document.addEventListener('outbox:logged-out', leave);
  open();
}

const unread = document.querySelector('#unread');
const notifications = document.querySelector('#notifications');

/** The bell is on each page. */
export const bell = {
  notification({ text }) {
    const item = document.createElement('li');
    item.className = 'unread';
    item.textContent = text;
    notifications.prepend(item);
    unread.textContent = String(Number(unread.textContent) + 1);
    unread.hidden = false;
  },
  read() {
    for (const item of notifications.children) item.className = '';
    unread.textContent = '0';
    unread.hidden = true;
  },
};
