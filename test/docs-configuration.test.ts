/**
 * What is written about the configuration, held against the configuration.
 */
import test from 'ava';
import { VARIABLES } from '../src/config/config.js';
import { configurationFiles } from './support/docs-configuration.js';

test('docs/configuration.md and .env.example are as the variables describe themselves: otherwise run `npm run docs`', async (t) => {
  for (const { file, found, wanted } of await configurationFiles()) t.is(found, wanted, file.pathname);
});

test('docs/configuration.md has every variable once, with what it means', async (t) => {
  const [page] = await configurationFiles();
  const rows = [...(page?.found ?? '').matchAll(/^\| `([A-Z][A-Z_]*)` \| (.+) \| (.{20,}) \|$/gm)];
  t.deepEqual(
    rows.map(([, name]) => name),
    VARIABLES,
  );
});
