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

document.addEventListener('htmx:sseOpen', ({ detail: { source } }) => {
  show('live', 'Live');
  if (known.has(source)) return;
  known.add(source);
  source.addEventListener('stream-reset', (event) =>
    import('/outbox-relay.js').then(({ reloadOnce }) => reloadOnce(event)),
  );
  source.addEventListener('logged-out', leave);
  source.addEventListener('ring', () => count(Number(unread.textContent) + 1));
  source.addEventListener('read', () => {
    count(0);
    for (const item of document.querySelectorAll('#notifications li')) item.className = '';
  });
});
document.addEventListener('htmx:sseError', ({ detail: { error } }) => {
  show('away', 'Reconnecting');
  // The token had ended, or is another's: the next try waits for a new one.
  if (error.status === 401 || error.status === 403) error.waitUntil(renew());
});
document.addEventListener('outbox:logged-out', leave);
