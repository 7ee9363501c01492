/**
 * What the page shows of its stream beside what htmx swaps in: whether it is live, and the bell's number. That a page goes on where it
 * was is the affair of the relay's module for htmx.
 */
const state = document.querySelector('#live');
const unread = document.querySelector('#unread');
const tokenUrl = document.querySelector('[data-token-url]').dataset.tokenUrl;
const known = new WeakSet();

function leave() {
  location.assign(document.body.dataset.logIn);
}

function show(name, words) {
  state.dataset.state = name;
  state.firstElementChild.textContent = words;
}

function count(number) {
  unread.textContent = String(number);
  unread.hidden = number === 0;
}

async function renew() {
  const answer = await fetch(tokenUrl).catch(() => undefined);
  if (answer?.status === 401) leave();
}

/** Events with a name, by what they do; each gets the event's data. The first is the relay's own: a proxy that answers for it has none. */
const signals = {
  'stream-open': () => show('live', 'Live'),
  ring: () => count(Number(unread.textContent) + 1),
  read() {
    count(0);
    for (const item of document.querySelectorAll('#notifications li')) item.className = '';
  },
  'logged-out': leave,
  'stream-reset': (data) => import('/outbox-relay.js').then(({ reloadOnce }) => reloadOnce({ data })),
};

// htmx 2 has a source, which fires them.
document.addEventListener('htmx:sseOpen', ({ detail: { source } }) => {
  if (known.has(source)) return;
  known.add(source);
  for (const [name, act] of Object.entries(signals)) source.addEventListener(name, ({ data }) => act(data));
});
document.addEventListener('htmx:sseError', ({ detail: { error } }) => {
  show('away', 'Reconnecting');
  // The token had ended, or is another's: the next try waits for a new one.
  if (error.status === 401 || error.status === 403) error.waitUntil(renew());
});

// htmx 4 fires them on the stream's element.
document.addEventListener('htmx:sse:before:connection', ({ detail: { connection } }) => {
  if (connection.attempt > 0) show('away', 'Reconnecting');
});
document.addEventListener('htmx:sse:error', ({ detail: { status } }) => {
  show('away', 'Reconnecting');
  if (status === 401 || status === 403) renew();
});
for (const [name, act] of Object.entries(signals)) {
  document.addEventListener(name, ({ detail }) => act(detail?.data));
}

document.addEventListener('outbox:logged-out', leave);
