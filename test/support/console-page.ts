/**
 * The console's page in Chromium, as an operator has it.
 */
import type { ExecutionContext } from 'ava';
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import type { Environment } from './relay.js';

export const PASSWORD = 'correct horse battery';
export const CONSOLE: Environment = { CONSOLE: 'true', CONSOLE_PASSWORD: PASSWORD };

/** The views, by the names that their links have. */
export const VIEWS = [
  'Overview',
  'Connections',
  'Channels',
  'Refusals',
  'Log',
  'Try a stream',
  'Token',
  'Doctor',
] as const;

/** What the page may take to show what has come. */
const SHOWS_WITHIN_MS = 20_000;

export interface ConsolePage {
  readonly page: Page;
  /** Goes to a view by its link. */
  open(view: (typeof VIEWS)[number]): Promise<void>;
  /** Goes to an address of the page's own. */
  goTo(hash: string): Promise<void>;
  signIn(password?: string): Promise<void>;
  /** Resolves with the element when its text is as expected. */
  until(selector: string, expected: RegExp | string): Promise<Locator>;
  /** Resolves when there is no such element. */
  untilGone(selector: string): Promise<void>;
  /** What axe-core finds wrong in what is shown. */
  violations(): Promise<string[]>;
}

/**
 * Opens it, not signed in. The test fails where the page throws, or something in it is refused by
 * its own policy.
 */
export async function openConsolePage(
  t: ExecutionContext,
  browser: Browser,
  relayUrl: string,
  options: BrowserContextOptions = {},
): Promise<ConsolePage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  t.teardown(() => context.close());
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    if (/Content.Security.Policy/i.test(message.text())) errors.push(message.text());
  });
  t.teardown(() => {
    if (errors.length > 0) throw new Error(`The page had errors: ${errors.join('\n')}`);
  });
  await page.goto(`${relayUrl}/console`);

  const until: ConsolePage['until'] = async (selector, expected) => {
    const found = page.locator(selector).filter({ hasText: expected }).first();
    try {
      await found.waitFor({ timeout: SHOWS_WITHIN_MS });
    } catch (error) {
      const text = await page.locator('body').innerText();
      throw new Error(`No ${selector} has ${String(expected)}: ${text.slice(0, 3000)}`, { cause: error });
    }
    return found;
  };
  return {
    page,
    until,
    async open(view) {
      await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: view, exact: true }).click();
      await until('h1', view);
    },
    async goTo(hash) {
      await page.evaluate(`location.hash = ${JSON.stringify(hash)}`);
    },
    async signIn(password = PASSWORD) {
      await page.getByLabel('Password', { exact: true }).and(page.locator('input[name=secret]')).fill(password);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await until('h1', 'Overview');
    },
    untilGone: (selector) => page.locator(selector).first().waitFor({ state: 'detached', timeout: SHOWS_WITHIN_MS }),
    async violations() {
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate<axe.AxeResults>('axe.run()');
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`);
    },
  };
}
