/**
 * docs/cli.md against the commands: it names every command and option, and each of its examples runs as it stands, from top to
 * bottom, and prints what it says.
 */
import { execFile } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { createProgram } from '../src/cli/program/program.js';
import { MAIN } from './support/command.js';
import { createDatabase } from './support/database.js';
import { readPages } from './support/docs.js';
import { makeFolder } from './support/folder.js';
import { startTestRelay } from './support/relay.js';
import { SECRET } from './support/token.js';

const page = readPages().get('docs/cli.md');

/** Of some lines in the page, a pattern: `…` is anything, also several lines. */
function patternOf(expected: string): RegExp {
  const parts = expected.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('[^]*?')}$`);
}

test('docs/cli.md has every command and every option of each', (t) => {
  const text = page?.text ?? '';
  const program = createProgram();
  for (const command of program.commands) {
    t.regex(text, new RegExp(`\\b${command.name()}\\b`), command.name());
    for (const { long } of command.options) t.true(text.includes(long ?? ''), `${command.name()} ${long ?? ''}`);
  }
});

test('every example of docs/cli.md runs as it stands, and prints what the page says', async (t) => {
  const { url } = await createDatabase(t);
  const access = { PUBLIC_CHANNELS: 'orders', JWT_SECRET: SECRET };
  const relay = await startTestRelay(t, url, { ...access, METRICS_PORT: '0' });
  const folder = await makeFolder(t, 'cli');
  const npx = join(folder, 'npx');
  await writeFile(npx, `#!/bin/sh\nshift\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  await chmod(npx, 0o755);
  const env = {
    ...access,
    PATH: `${folder}:${process.env['PATH'] ?? ''}`,
    DATABASE_URL: url,
    PORT: new URL(relay.url).port,
    METRICS_PORT: new URL(relay.metricsUrl ?? '').port,
  };
  const ours = (text: string) => text.replaceAll('http://127.0.0.1:8001', relay.url);
  const blocks = (page?.blocks ?? []).filter(({ language }) => language === 'console');
  const examples = blocks.flatMap(({ code }) =>
    code
      .trimEnd()
      .split(/^(?=\$ )/m)
      .map((example) => /^\$ (.*)\n?([^]*)$/.exec(example.trimEnd())?.slice(1) ?? []),
  );
  t.true(examples.length >= 24, `${examples.length} examples`);
  for (const [line = '', expected = ''] of examples) {
    // The relay lets go of what it reads before that is removed.
    if (line.includes('migrate down')) await relay.stop();
    const { stdout, stderr } = await promisify(execFile)('sh', ['-c', ours(line)], { env, maxBuffer: 2 ** 24 });
    t.regex(`${stderr}${stdout}`.trimEnd(), patternOf(ours(expected)), line);
  }
});
