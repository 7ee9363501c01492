/**
 * Brings migrations/*.sql of this repository into the Django app: a copy of each, a Django migration that applies it, and the
 * names of what they make.
 *
 *     node examples/django/outbox/sync.mjs           after a migration was added
 *     node examples/django/outbox/sync.mjs --check   says what is not the same, and fails
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const SOURCE = new URL('../../../migrations/', import.meta.url);
const SQL = new URL('outbox/sql/', import.meta.url);
const DJANGO = new URL('outbox/migrations/', import.meta.url);

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

const stale = [...wanted].filter(([href, text]) => {
  const url = new URL(href);
  return !existsSync(url) || readFileSync(url, 'utf8') !== text;
});
const extra = readdirSync(SQL).filter((file) => !wanted.has(new URL(file, SQL).href));
for (const [href, text] of stale) {
  if (check) console.error(`not as in migrations/: ${new URL(href).pathname}`);
  else {
    writeFileSync(new URL(href), text);
    console.log(`wrote ${new URL(href).pathname}`);
  }
}
for (const file of extra) console.error(`in migrations/ there is no ${file}`);
if (check && stale.length + extra.length > 0) {
  console.error('Run: node examples/django/outbox/sync.mjs');
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
