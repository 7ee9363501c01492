/**
 * The feed of one subscriber, newest first: its events, and between them the lines that tell what became of its
 * connection. An interruption is told in one line, which is rewritten as the story goes on:
 *
 *   "Cut at cursor 7"  ->  "Back at cursor 7: replaying…"  ->  "Back at cursor 7: 3 events replayed"
 *                                                          ->  "stream-reset: cursor 7 is expired …"
 */
import { fromTemplate } from './elements.js';
import { count } from './words.js';

const FEED_ROWS = 200;

export function createFeed(list) {
  /** The line that tells of the current interruption; it is rewritten when the stream is back. */
  let breakLine = null;
  /** The line that told of the stream's opening, until its first event. A reset right after it takes its place. */
  let openingLine = null;

  function add(item) {
    list.prepend(item);
    if (list.children.length > FEED_ROWS) list.lastElementChild.remove();
    return item;
  }

  function addLine(kind, text = '') {
    const line = document.createElement('li');
    line.className = `line ${kind}`;
    line.textContent = text;
    return add(line);
  }

  return {
    event(event, isReplayed) {
      openingLine = null;
      add(eventRow(event, isReplayed));
    },
    note: (text) => addLine('note', text),
    problem: (text) => addLine('reset', text),
    /** Tells of an interruption, unless one is being told of already. */
    broken(text) {
      breakLine ??= addLine('gap', text);
    },
    /** A new connection: what it says first is about itself, not about the one before. */
    connected() {
      openingLine = null;
    },
    /** Tells of the return. Returns a function that completes the line with the number of replayed events. */
    back(from) {
      const line = breakLine ?? addLine('back');
      breakLine = null;
      openingLine = line;
      line.className = 'line back';
      line.textContent = `Back at cursor ${from}: replaying…`;
      return (n) => {
        line.textContent =
          `Back at cursor ${from}: ` + (n === 0 ? 'nothing was missed' : `${count(n, 'event')} replayed`);
      };
    },
    /** Tells of a cursor that the relay could not honour, and of the one that the stream goes on from. */
    reset({ reason, lastEventId, cursor }) {
      const line = breakLine ?? openingLine ?? addLine('reset');
      breakLine = openingLine = null;
      line.className = 'line reset';
      const title = document.createElement('strong');
      title.textContent = `stream-reset: cursor ${lastEventId} is ${reason}`;
      const meaning =
        reason === 'expired'
          ? 'Retention has moved past it, so a gap can’t be ruled out.'
          : 'This log has never handed it out, so there is no telling what was missed.';
      line.replaceChildren(
        title,
        ` ${meaning} The relay says so instead of skipping in silence: load your state afresh, then go on live` +
          ` from cursor ${cursor}.`,
      );
    },
    /** Keeps the line of a current interruption, as its sequel has to go somewhere. */
    clear() {
      list.replaceChildren(...(breakLine ? [breakLine] : []));
    },
  };
}

function eventRow(event, isReplayed) {
  const row = fromTemplate('event-template');
  row.classList.toggle('is-replayed', isReplayed);
  row.querySelector('.id').textContent = event.lastEventId;
  row.querySelector('.name').textContent = event.type;
  row.querySelector('.badge').hidden = !isReplayed;
  row.querySelector('.data').textContent = event.data;
  row.querySelector('time').textContent = new Date().toLocaleTimeString([], { hour12: false });
  return row;
}
