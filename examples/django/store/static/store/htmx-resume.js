/**
 * htmx's SSE extension opens a new EventSource at the address that the page came with when the old one has given up. This makes the
 * new one start at the last event that was seen, with a new token, so that nothing is swapped in twice; and keeps the bell's number.
 */
const state = document.querySelector('#live');
const unread = document.querySelector('#unread');
const tokenUrl = document.querySelector('[data-token-url]').dataset.tokenUrl;
const lasts = new Map();

function leave() {
  location.assign(document.body.dataset.logIn);
}

function show(name, words) {
  state.dataset.state = name;
  state.firstElementChild.textContent = words;
}

htmx.createEventSource = (url) => {
  const address = new URL(url, location.href);
  if (lasts.has(url)) address.searchParams.set('last_event_id', lasts.get(url));
  const source = new EventSource(address);
  const add = source.addEventListener.bind(source);
  source.addEventListener = (name, handle, options) =>
    add(
      name,
      (event) => {
        if (event.lastEventId) lasts.set(url, event.lastEventId);
        handle(event);
      },
      options,
    );
  add('open', () => show('live', 'Live'));
  add('error', async () => {
    show('away', 'Reconnecting');
    if (source.readyState !== EventSource.CLOSED) return;
    // Before the extension tries again.
    const answer = await fetch(tokenUrl).catch(() => undefined);
    if (answer?.status === 401) leave();
  });
  add('stream-reset', () => location.reload());
  // Heartbeats: a page that gets nothing for long has passed what was for others, too.
  source.addEventListener('stream-cursor', () => {});
  add('logged-out', leave);
  add('ring', () => count(Number(unread.textContent) + 1));
  add('read', () => {
    count(0);
    for (const item of document.querySelectorAll('#notifications li')) item.className = '';
  });
  return source;
};

function count(number) {
  unread.textContent = String(number);
  unread.hidden = number === 0;
}

document.addEventListener('outbox:logged-out', leave);
