/**
 * The demo page. It publishes rows, subscribes to them, and checks what arrives against what it published. This file
 * puts its parts together:
 *
 *   publish.js --ids--> audience.js --> subscriber.js, one each --> ledger.js, replay.js, panel.js with feed.js
 *              --name-> event-names.js --> audience.js
 *   publish.js, subscriber.js --what was done-> steps.js
 */
import { createAudience } from './audience.js';
import { enableCopyButtons } from './copy.js';
import { byId } from './elements.js';
import { createEventNames } from './event-names.js';
import { createPublisher } from './publish.js';
import { createSteps } from './steps.js';

async function showDemo() {
  try {
    const demo = await (await fetch('/demo.json')).json();
    byId('psql').textContent = `psql '${demo.databaseUrl}'`;
    byId('versions').textContent = `${demo.version} on PostgreSQL ${demo.postgres}`;
  } catch {
    byId('psql').textContent = 'The relay did not tell its address. Reload the page when it runs.';
  }
}

const eventNames = createEventNames({ onLearn: (name) => audience.listenFor(name) });
const steps = createSteps();
const audience = createAudience({ eventNames: eventNames.all, onDone: steps.done });
createPublisher({
  onName: eventNames.learn,
  onPublished(ids, row) {
    audience.expect(ids, row);
    steps.done('publish');
    if (audience.isSomeoneCut()) steps.done('miss');
  },
});
enableCopyButtons();
void showDemo();
