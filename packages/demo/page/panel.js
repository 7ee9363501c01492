/**
 * The panel of one subscriber: its element, its controls and its figures. It reports what the reader does and shows
 * what it is given; the connection and its state are the subscriber's (subscriber.js).
 */
import { parseChannels } from './channels.js';
import { fromTemplate } from './elements.js';
import { createFeed } from './feed.js';

/** `actions` holds a function for each thing the reader can do: see the listeners below. */
export function createPanel({ letter, initialChannels, removable, actions }) {
  const element = fromTemplate('subscriber-template');
  const part = (selector) => element.querySelector(selector);
  const input = part('input[name=channels]');
  const list = part('.feed');
  const feed = createFeed(list);

  part('.letter').textContent = letter;
  element.setAttribute('aria-label', `Subscriber ${letter}`);
  list.setAttribute('aria-label', `Events of subscriber ${letter}, newest first`);
  input.value = initialChannels;
  input.addEventListener('input', actions.edit);
  part('.channels').addEventListener('submit', (event) => {
    event.preventDefault();
    actions.reconnect();
  });
  part('.toggle').addEventListener('click', () => actions.toggle());
  part('.come-back-expired').addEventListener('click', () => actions.comeBackExpired());
  part('.come-back-unknown').addEventListener('click', () => actions.comeBackUnknown());
  part('.clear').addEventListener('click', () => feed.clear());
  part('.remove').hidden = !removable;
  part('.remove').addEventListener('click', () => actions.remove());
  closeByItself(part('.menu'));

  return {
    element,
    feed,
    readChannels: () => parseChannels(input.value),
    askForChannels: () => input.reportValidity(),
    showRequest(url) {
      part('.request code').textContent = decodeURIComponent(url);
    },
    show({ state, isClosed, cursor, received, replayed, channels, verdict }) {
      element.dataset.state = state;
      // Written only when it changes, as a screen reader speaks each write.
      if (part('.state').textContent !== state) part('.state').textContent = state;
      part('.cursor').textContent = cursor ?? 'none yet';
      part('.received').textContent = received;
      part('.replayed').textContent = replayed;
      part('.toggle').textContent = isClosed ? `Bring ${letter} back` : `Cut ${letter} off`;
      part('.apply').hidden = isClosed || parseChannels(input.value).join() === channels.join();
      list.dataset.empty = `Nothing yet on ${channels.join(', ')}`;
      part('.verdict').textContent = verdict.text;
      part('.verdict').dataset.verdict = verdict.kind;
    },
  };
}

/** Closes the menu after a choice, on Escape, and on a click elsewhere, none of which <details> does. */
function closeByItself(menu) {
  menu.addEventListener('click', (event) => {
    if (event.target.closest('button')) menu.open = false;
  });
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return;
    menu.open = false;
    menu.querySelector('summary').focus();
  });
  document.addEventListener('click', (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
}
