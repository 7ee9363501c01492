/**
 * Addresses of databases: what is read as psql reads it, and what is refused, with what to do and without a secret.
 */
import test from 'ava';
import { readConfig } from '../src/config/config.js';
import { readDatabaseUrl } from '../src/postgres/database-url.js';

for (const [text, expected] of [
  ['postgres://u:p@h:6543/db', { user: 'u', password: 'p', host: 'h', port: 6543, database: 'db' }],
  ['postgresql://u:p@h/db', { user: 'u', password: 'p', host: 'h', database: 'db' }],
  ['postgres://u:p%40%2F%3A%23%25@h/d%2Fb', { user: 'u', password: 'p@/:#%', host: 'h', database: 'd/b' }],
  ['postgres://u:@h/db', { user: 'u', password: '', host: 'h', database: 'db' }],
  ['postgres://u:p@[::1]:5432/db', { user: 'u', host: '::1', port: 5432, database: 'db' }],
  ['postgres:///db?host=/var/run/postgresql', { host: '/var/run/postgresql', database: 'db' }],
  ['postgres://u@/db?host=/var/run/postgresql', { user: 'u', host: '/var/run/postgresql', database: 'db' }],
  ['postgres://u@%2Fvar%2Frun%2Fpostgresql/db', { user: 'u', host: '/var/run/postgresql', database: 'db' }],
  ['postgresql://h?user=u&password=p&dbname=db', { user: 'u', password: 'p', host: 'h', database: 'db' }],
  ['postgres://h/db?options=-c%20search_path%3Dapp', { host: 'h', options: '-c search_path=app' }],
  ['postgres://h/db?target_session_attrs=read-write', { host: 'h' }],
] as const) {
  test(`${text} is read as psql reads it`, (t) => {
    t.like({ ...readDatabaseUrl(text, {}).config, password: readDatabaseUrl(text, {}).config.password }, expected);
  });
}

for (const [text, expected] of [
  ['postgres://u:sesame@h1,h2/db', /one host.*proxy/],
  ['postgres://u:sesame@h1:5432,h2:5433/db?target_session_attrs=read-write', /one host.*proxy/],
  ['postgres://u:sesame@/db?host=h1,h2', /one host/],
  ['postgres://u:sesame@h/db?target_session_attrs=standby', /target_session_attrs.*read-write/],
  ['postgres://u:sesame@/db?service=shop', /service=.*pg_service\.conf/],
  ['postgres://u:sesame@/db?hostaddr=10.0.0.1', /hostaddr/],
  ['host=h dbname=db password=sesame', /URL, as in postgres:.*key=value/],
  ['mysql://u:sesame@h/db', /URL, as in postgres:/],
  ['postgres://u:ses#ame@h/db', /%23/],
  ['postgres://u:ses/ame@h/db', /%2F/],
  ['postgres://u:sesame@h:99999/db', /URL, as in postgres:/],
  ['postgres://u:sesame@h/db?port=abc', /URL, as in postgres:/],
  ['postgres://u:sesame@h/db?sslmode=on', /sslmode .*require/],
  ['postgres://u:sesame@h/db?sslmode=verify-ca', /sslrootcert/],
  ['postgres://u:sesame@h/db?sslmode=verify-full&sslrootcert=/nowhere/root.crt', /sslrootcert .*ENOENT/],
  ['postgres://u:sesame@h/db?sslmode=require&sslcert=/nowhere/c&sslkey=/nowhere/k', /sslcert .*ENOENT/],
] as const) {
  test(`${text} is refused by a line that says what to do, and has no secret in it`, (t) => {
    const error = t.throws(() => readConfig({ DATABASE_URL: text }), { name: 'OperatorError' });
    t.regex(error.message, expected);
    t.regex(error.message, /DATABASE_URL/);
    t.notRegex(error.message, /ses.?ame/);
    t.is(error.message.split('\n').length, 2, error.message);
  });
}

for (const [mode, expected] of [
  ['disable', false],
  ['prefer', { rejectUnauthorized: false }],
  ['require', { rejectUnauthorized: false }],
  ['no-verify', { rejectUnauthorized: false }],
  ['verify-full', {}],
] as const) {
  test(`sslmode=${mode} means what it means to psql, in the URL and as PGSSLMODE`, (t) => {
    t.deepEqual(readDatabaseUrl(`postgres://h/db?sslmode=${mode}`, {}).ssl, expected);
    t.deepEqual(readDatabaseUrl('postgres://h/db', { PGSSLMODE: mode }).ssl, expected);
    t.is(readDatabaseUrl(`postgres:///db?host=/run&sslmode=${mode}`, {}).ssl, false);
  });
}
