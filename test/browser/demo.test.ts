/**
 * The page of the demo, as somebody goes through it who sees it for the first time.
 */
import test, { type ExecutionContext } from 'ava';
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { startDemoRelay } from '../support/demo.js';

const PHONE: BrowserContextOptions = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true };
const DESKTOP: BrowserContextOptions = { viewport: { width: 1280, height: 800 } };

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

// One after the other: the role whose address is on the page is the server's, and not a database's.

interface Subscriber {
  /** Cuts it off, or brings it back. */
  toggle(): Promise<void>;
  /** Chooses from its menu. */
  choose(item: string): Promise<void>;
  text(selector: string): Promise<string>;
}

async function openDemo(t: ExecutionContext, options: BrowserContextOptions = DESKTOP) {
  const { database, relay } = await startDemoRelay(t);
  // Colours that fade are not those that stay.
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options });
  t.teardown(() => context.close());
  const page = await context.newPage();
  const errors: Error[] = [];
  page.on('pageerror', (error) => errors.push(error));
  t.teardown(() => {
    if (errors.length > 0) throw new AggregateError(errors, 'The page threw.');
  });
  await page.goto(relay.url);

  /** Resolves when the text of an element is as expected. */
  const until = async (selector: string, expected: RegExp): Promise<void> => {
    await page.locator(selector).filter({ hasText: expected }).waitFor({ timeout: 20_000 });
  };
  const subscriber = (letter: string): Subscriber => {
    const panel = page.getByRole('region', { name: `Subscriber ${letter}` });
    return {
      toggle: () => panel.locator('.toggle').click(),
      async choose(item) {
        await panel.locator('summary').click();
        await panel.getByRole('button', { name: item }).click();
      },
      text: (selector) => panel.locator(selector).innerText(),
    };
  };
  const publish = async (button = 'Publish'): Promise<void> => {
    // What it said of the one before is not its answer.
    await page.evaluate(`document.getElementById('publish-result').textContent = ''`);
    await page.getByRole('button', { name: button, exact: true }).click();
    await until('#publish-result', /committed/i);
  };
  await until('[aria-label="Subscriber A"] .state', /live/);
  await until('[aria-label="Subscriber B"] .state', /live/);
  return { database, page, until, publish, a: subscriber('A'), b: subscriber('B') };
}

const doneSteps = (page: Page) =>
  page
    .locator('#steps .is-done')
    .evaluateAll((steps) => steps.map(({ dataset }) => (dataset as { step: string }).step));
const currentStep = (page: Page) => page.locator('#steps [aria-current="step"]').innerText();

test.serial('the steps tick off as they are done, the next one is marked, and a screen reader hears it', async (t) => {
  const { page, until, publish, a } = await openDemo(t);
  t.deepEqual(await doneSteps(page), []);
  t.is(await currentStep(page), 'Publish');
  await publish();
  t.deepEqual(await doneSteps(page), ['publish']);
  t.is(await currentStep(page), 'Cut A off');
  await a.toggle();
  t.deepEqual(await doneSteps(page), ['publish', 'cut']);
  await publish('Publish 10 at once');
  t.deepEqual(await doneSteps(page), ['publish', 'cut', 'miss']);
  t.is(await currentStep(page), 'Bring A back');
  await a.toggle();
  await until('[aria-label="Subscriber A"] .line.back', /10 events replayed/);
  t.deepEqual(await doneSteps(page), ['publish', 'cut', 'miss', 'resume']);
  await a.choose('with an expired cursor');
  await page.getByRole('button', { name: 'Delete and come back' }).click();
  await until('[aria-label="Subscriber A"] .line.reset', /is expired/);
  t.deepEqual(await doneSteps(page), ['publish', 'cut', 'miss', 'resume', 'reset']);
  t.is(await page.locator('#steps [aria-current]').count(), 0);
  t.is(await page.locator('#steps .is-done .unseen').filter({ hasText: ', done' }).count(), 5);
});

test.serial('a step that was not done is not ticked: nothing was missed, so nothing is brought back', async (t) => {
  const { page, until, a } = await openDemo(t);
  await a.toggle();
  await a.toggle();
  await until('[aria-label="Subscriber A"] .line.back', /nothing was missed/);
  t.deepEqual(await doneSteps(page), ['cut']);
  t.is(await currentStep(page), 'Publish');
});

test.serial(
  'on a phone publishing and cutting off are in one view, from the start to the reset, and nothing scrolls sideways',
  async (t) => {
    const { page, until, publish, a } = await openDemo(t, PHONE);
    const check = async (when: string) => {
      await page.evaluate('scrollTo(0, 0)');
      for (const button of [
        '#publish-form .primary',
        '#publish-burst',
        '[aria-label="Subscriber A"] .toggle',
        '#steps',
      ]) {
        const box = await page.locator(button).boundingBox();
        t.true(box !== null && box.y >= 0 && box.y + box.height <= 640, `${button} ${when}: ${JSON.stringify(box)}`);
        t.true(box !== null && box.x >= 0 && box.x + box.width <= 360, `${button} ${when}: ${JSON.stringify(box)}`);
      }
      t.is(await page.evaluate('document.documentElement.scrollWidth'), 360, when);
    };
    await check('at first');
    await publish();
    await a.toggle();
    await publish('Publish 10 at once');
    await check('while A is cut off');
    await a.toggle();
    await until('[aria-label="Subscriber A"] .line.back', /replayed/);
    await check('when A is back');
    await a.choose('with an unknown cursor');
    await until('[aria-label="Subscriber A"] .line.reset', /is unknown/);
    await page.locator('input[name=channel]').fill('a*b');
    await page.getByRole('button', { name: 'Publish', exact: true }).click();
    await until('#publish-result', /Choose another name/);
    await page.getByRole('button', { name: 'Add a third' }).click();
    await check('with all that can be shown');
  },
);

test.serial(
  'the statement that is shown is the one that PostgreSQL ran, for one row and for ten, to the letter',
  async (t) => {
    const { page, database, until, publish } = await openDemo(t);
    const shown = () => page.evaluate<string>('document.getElementById("sql").textContent');
    const title = () => page.locator('#statement-title').innerText();
    const ran = async () => {
      const { rows } = await database.query<{ query: string }>(
        `SELECT query FROM pg_stat_activity WHERE usename = 'outbox_demo' AND datname = current_database()
       ORDER BY query_start DESC LIMIT 1`,
      );
      return rows[0]?.query;
    };
    for (const [channel, event, data] of [
      ['orders', 'status', '{"order":1,"status":"packed"}'],
      ["o'brien\\", '', '{"n": 12345678901234567890, "a" : "\\\\n\'"}'],
      ['user:42', 'über', 'plain text, it’s "quoted"'],
    ] as const) {
      await page.locator('input[name=channel]').fill(channel);
      await page.locator('input[name=event]').fill(event);
      await page.locator('textarea').fill(data);
      t.is(await title(), 'What Publish runs');
      const preview = await shown();
      await publish();
      await until('#statement-title', /^What ran$/);
      t.is(await shown(), preview);
      t.is(await ran(), preview);
      await publish('Publish 10 at once');
      await page.locator('#sql').filter({ hasText: 'generate_series(1, 10)' }).waitFor();
      t.is(await ran(), await shown());
    }
    const { rows } = await database.query('SELECT data::text FROM outbox WHERE channel = $1 ORDER BY id LIMIT 1', [
      "o'brien\\",
    ]);
    t.deepEqual(rows, [{ data: '{"a": "\\\\n\'", "n": 12345678901234567890}' }]);
  },
);

test.serial(
  'after a reset the figures and the verdict begin anew together, and those of the other subscriber go on',
  async (t) => {
    const { page, until, publish, a, b } = await openDemo(t);
    const agree = async (letter: string, { text }: Subscriber, sent: number) => {
      await until(`[aria-label="Subscriber ${letter}"] .verdict`, new RegExp(`: ${sent} sent, 0 missing, 0 doubled`));
      t.is(await text('.received'), String(sent), letter);
    };
    await publish('Publish 10 at once');
    await agree('A', a, 10);
    await a.choose('with an expired cursor');
    await page.getByRole('button', { name: 'Delete and come back' }).click();
    await until('[aria-label="Subscriber A"] .line.reset', /is expired/);
    t.deepEqual([await a.text('.received'), await a.text('.replayed')], ['0', '0']);
    t.regex(await a.text('.verdict'), /since the reset/);
    // It was there for the event that had to be missed.
    await agree('B', b, 11);
    await publish();
    await agree('A', a, 1);
    await agree('B', b, 12);
    await a.choose('with an unknown cursor');
    await until('[aria-label="Subscriber A"] .line.reset >> nth=0', /is unknown/);
    t.is(await a.text('.received'), '0');
    await publish('Publish 10 at once');
    await agree('A', a, 10);
    await agree('B', b, 22);
  },
);

test.serial('after a change of channels the figures and the verdict still agree', async (t) => {
  const { page, until, publish, a } = await openDemo(t);
  await publish('Publish 10 at once');
  await until('[aria-label="Subscriber A"] .verdict', /: 10 sent/);
  await page.locator('[aria-label="Subscriber A"] input').fill('stock');
  await page.locator('[aria-label="Subscriber A"] .apply').click();
  await until('[aria-label="Subscriber A"] .request', /channel=stock/);
  t.regex(await a.text('.verdict'), /: 10 sent, 0 missing/);
  t.is(await a.text('.received'), '10');
});

for (const colorScheme of ['light', 'dark'] as const) {
  for (const [device, options] of [
    ['a phone', PHONE],
    ['a desktop', DESKTOP],
  ] as const) {
    test.serial(`axe finds nothing in any state of the page: ${colorScheme}, on ${device}`, async (t) => {
      const { page, until, publish, a } = await openDemo(t, { ...options, colorScheme });
      const check = async (state: string) => {
        await page.evaluate(axe.source);
        const { violations } = await page.evaluate<axe.AxeResults>('axe.run(document)');
        const found = violations.flatMap(({ id, nodes }) =>
          nodes.map(({ target, failureSummary }) => `${id}: ${target.join(' ')}: ${failureSummary ?? ''}`),
        );
        t.deepEqual(found, [], state);
      };
      await check('at first');
      await publish();
      await a.toggle();
      await publish('Publish 10 at once');
      await check('cut off');
      await a.toggle();
      await until('[aria-label="Subscriber A"] .line.back', /replayed/);
      await check('brought back');
      await page.locator('[aria-label="Subscriber A"] summary').click();
      await check('with the menu open');
      await page.getByRole('button', { name: 'with an expired cursor' }).click();
      await check('in the dialog');
      await page.getByRole('button', { name: 'Delete and come back' }).click();
      await until('[aria-label="Subscriber A"] .line.reset', /is expired/);
      await page.locator('input[name=channel]').fill('a*b');
      await page.getByRole('button', { name: 'Publish', exact: true }).click();
      await until('#publish-result', /Choose another name/);
      await page.locator('textarea').fill('{');
      await page.getByRole('button', { name: 'Add a third' }).click();
      await check('with mistakes and a third subscriber');
      await page.locator('[aria-label="Subscriber C"] input').fill('a*b');
      await page.locator('[aria-label="Subscriber C"] .apply').click();
      await until('[aria-label="Subscriber C"] .state', /refused/);
      await check('refused');
    });
  }
}
