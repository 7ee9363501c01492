/**
 * The wheel: what is in it, and that it is enough.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { createProject } from '../support/django-project.js';
import { installedApp, wheelVenv } from '../support/django-wheel.js';

test('the wheel has the relay, its migrations, its modules for pages, and the licence of each package in it', (t) => {
  const relay = join(installedApp(wheelVenv()), 'relay');
  for (const file of [
    'package.json',
    'LICENSE',
    'dist/src/bundle/main.js',
    'dist/src/bundle/sdk.js',
    'dist/packages/client/outbox-relay.js',
    'dist/packages/client/outbox-relay-htmx.js',
    ...['index.html', 'console.js', 'console.css', 'icon.svg', 'licences.txt'].map(
      (name) => `dist/packages/console/${name}`,
    ),
    ...readdirSync('migrations').map((name) => `migrations/${name}`),
  ]) {
    t.true(existsSync(join(relay, file)), file);
  }
  const bundle = readdirSync(join(relay, 'dist/src/bundle'));
  t.true(bundle.length < 10, bundle.join(', '));
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
    'dependencies' | 'optionalDependencies',
    Record<string, string>
  >;
  const licences = readFileSync(join(relay, 'THIRD-PARTY.txt'), 'utf8').split(`\n\n${'-'.repeat(80)}\n\n`);
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    const text = licences.find((each) => new RegExp(`^(.*\n\n)?${name} \\d`).test(each)) ?? '';
    t.true(text.length > 300, name);
  }
  for (const text of licences) t.true(text.length > 300, text);
});

test('the wheel is enough, with no Node on the path: the relay says its version, migrates, and looks at the database', async (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const project = await createProject(t, '', false);
  const code = 'import shutil; print("node:", shutil.which("node"))';
  t.regex(await project.succeed('shell', '-c', code), /^node: None$/m);
  const [usage] = (await project.succeed('outbox_relay', 'help')).split('\n', 1);
  t.is(usage, 'Usage: python manage.py outbox_relay [options] [command]');
  t.regex(await project.succeed('outbox_relay', 'migrate'), /^applied 1_outbox$/m);
  t.regex(await project.succeed('migrate'), /Applying outbox\.0001_outbox\.\.\. OK/);
  t.regex(await project.succeed('outbox_relay', 'migrate', 'status'), /^applied {2}1_outbox$/m);
  t.regex(await project.succeed('outbox_relay', 'doctor'), /^0 errors, /m);
  const relay = join(installedApp(wheelVenv()), 'relay/package.json');
  t.is((JSON.parse(readFileSync(relay, 'utf8')) as { version: string }).version, version);
});
