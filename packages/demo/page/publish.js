/** The publish form: reads its fields, posts them to the relay, and reports the ids under which the rows committed. */
import { byId } from './elements.js';
import { post } from './relay.js';
import { showNext, showRan } from './statement.js';
import { count } from './words.js';

const STATUSES = ['packed', 'shipped', 'delivered'];
const BURST = 10;

const form = byId('publish-form');
const { channel: channelField, event: eventField, data: dataField } = form.elements;

/**
 * Calls `onName` with the event name before a publish, and `onPublished` with the ids and `{ channel, startedAt }`
 * after one.
 */
export function createPublisher({ onName, onPublished }) {
  let suggestions = 0;

  /** The prefilled data moves on after each publish, so that events can be told apart, until someone writes their own. */
  function suggestNext() {
    const suggestion = (n) => `{"order":${1 + Math.floor(n / 3)},"status":"${STATUSES[n % 3]}"}`;
    if (dataField.value.trim() !== suggestion(suggestions)) return;
    suggestions += 1;
    dataField.value = suggestion(suggestions);
    showKind();
  }

  async function publish(path, body, describe) {
    const row = { channel: channelField.value, startedAt: performance.now() };
    try {
      const answer = await post(path, body);
      const ids = answer.ids ?? [answer.id];
      onPublished(ids, row);
      showRan(answer.statement);
      showResult(describe(ids));
      return true;
    } catch (error) {
      showResult(error.message, true);
      return false;
    }
  }

  form.addEventListener('input', () => {
    showKind();
    showStatement();
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const name = eventField.value;
    onName(name);
    // Written out by hand, so that the data goes out as it stands.
    const members = [`"channel":${JSON.stringify(channelField.value)}`, `"data":${readData().json}`];
    if (name !== '') members.push(`"event":${JSON.stringify(name)}`);
    const done = await publish('/publish', `{${members}}`, ([id]) => `Committed as id ${id}`);
    if (done) suggestNext();
  });
  dataField.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId('publish-burst').addEventListener('click', () => {
    if (!channelField.reportValidity()) return;
    void publish(
      '/burst',
      JSON.stringify({ channel: channelField.value, count: BURST }),
      (ids) => `${count(ids.length, 'row')} committed together, ids ${ids[0]} to ${ids.at(-1)}`,
    );
  });

  showKind();
  showStatement();
}

/**
 * Reads the data field. JSON goes out as it was written, not parsed and printed again, as that would round 64-bit
 * numbers. What doesn't look like JSON is text, sent as a JSON string, which the relay delivers as its text.
 */
function readData() {
  const text = dataField.value.trim();
  try {
    JSON.parse(text);
    return { json: text, kind: 'JSON' };
  } catch {
    if (text === '') return { problem: 'Write a JSON value or some text' };
    if (/^[[{"]/.test(text)) return { problem: 'Not valid JSON yet' };
    return { json: JSON.stringify(text), kind: 'text, delivered as it is' };
  }
}

/** Shows how the data is read. */
function showKind() {
  const { kind, problem = '' } = readData();
  dataField.setCustomValidity(problem);
  byId('data-kind').textContent = problem || kind;
  byId('data-kind').classList.toggle('is-problem', problem !== '');
}

/** Shows the statement that the form amounts to. */
function showStatement() {
  const { json = dataField.value } = readData();
  showNext({ channel: channelField.value, event: eventField.value || undefined, data: json });
}

function showResult(text, isProblem = false) {
  byId('publish-result').textContent = text;
  byId('publish-result').classList.toggle('is-problem', isProblem);
}
