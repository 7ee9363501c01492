/**
 * Brings into the Django app what it has of this repository: a copy of each of migrations/*.sql, a Django migration that applies it,
 * the names of what they make; and the names of the relay's variables.
 *
 *     node packages/django/sync.mjs           after a migration or a variable was added
 *     node packages/django/sync.mjs --check   says what is not the same, and fails
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const SOURCE = new URL('../../migrations/', import.meta.url);
const SQL = new URL('outbox/sql/', import.meta.url);
const DJANGO = new URL('outbox/migrations/', import.meta.url);
const VARIABLES = new URL('../../src/config/variables.ts', import.meta.url);
const VARIABLE_NAMES = new URL('outbox/relay_variables.json', import.meta.url);

const check = process.argv.includes('--check');
const names = readdirSync(SOURCE)
  .filter((file) => file.endsWith('.sql'))
  .map((file) => file.slice(0, -'.sql'.length))
  .sort((a, b) => Number.parseInt(a) - Number.parseInt(b));

const wanted = new Map();
for (const [index, name] of names.entries()) {
  wanted.set(new URL(`${name}.sql`, SQL).href, readFileSync(new URL(`${name}.sql`, SOURCE), 'utf8'));
  // The first is written by hand: it has the model as well.
  if (index > 0) wanted.set(new URL(`${djangoName(name)}.py`, DJANGO).href, djangoMigration(name, names[index - 1]));
}
// Names that a migration needs: one that is there before it is not ours.
const { tables, sequences } = JSON.parse(readFileSync(new URL('manifest.json', SOURCE), 'utf8'));
wanted.set(new URL('relations.json', SQL).href, `${JSON.stringify([...tables, ...sequences], undefined, 2)}\n`);
// Each is a line of its own in the schema: no build is needed to read them.
const variables = [...readFileSync(VARIABLES, 'utf8').matchAll(/^ {2}([A-Z][A-Z0-9_]*): as\(/gm)].map(
  ([, name]) => name,
);
if (variables.length === 0) throw new Error(`In ${VARIABLES.pathname} no variable was found.`);
wanted.set(VARIABLE_NAMES.href, `${JSON.stringify(variables, undefined, 2)}\n`);

const stale = [...wanted].filter(([href, text]) => {
  const url = new URL(href);
  return !existsSync(url) || readFileSync(url, 'utf8') !== text;
});
const extra = readdirSync(SQL).filter((file) => !wanted.has(new URL(file, SQL).href));
for (const [href, text] of stale) {
  if (check) console.error(`not as in the repository: ${new URL(href).pathname}`);
  else {
    writeFileSync(new URL(href), text);
    console.log(`wrote ${new URL(href).pathname}`);
  }
}
for (const file of extra) console.error(`in migrations/ there is no ${file}`);
if (check && stale.length + extra.length > 0) {
  console.error('Run: node packages/django/sync.mjs');
  process.exitCode = 1;
}

/** 3_publish_function becomes 0003_publish_function. */
function djangoName(name) {
  const [, number, rest] = /^(\d+)_(.+)$/.exec(name);
  return `${number.padStart(4, '0')}_${rest.replaceAll('-', '_')}`;
}

function djangoMigration(name, before) {
  return `from django.db import migrations

from outbox.schema import RunOutboxSQL


class Migration(migrations.Migration):
    dependencies = [("outbox", "${djangoName(before)}")]

    operations = [RunOutboxSQL("${name}")]
`;
}
