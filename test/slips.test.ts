/**
 * Variables whose names are near to one of ours: which are told of, and which are another program's.
 */
import test from 'ava';
import { VARIABLES } from '../src/config/config.js';
import { findSlips } from '../src/config/slips.js';

const meantBy = (name: string, others: Record<string, string> = {}) =>
  findSlips({ [name]: 'x', ...others }).map(({ meant }) => meant);

test('a near miss is told with the variable that was meant', (t) => {
  for (const [name, meant] of [
    ['PUBLIC_CHANEL', 'PUBLIC_CHANNELS'],
    ['PUBLIC_CHANNEL', 'PUBLIC_CHANNELS'],
    ['PUBILC_CHANNELS', 'PUBLIC_CHANNELS'],
    ['public_channels', 'PUBLIC_CHANNELS'],
    ['PUBLIC-CHANNELS', 'PUBLIC_CHANNELS'],
    ['DATABASE_URI', 'DATABASE_URL'],
    ['LOGLEVEL', 'LOG_LEVEL'],
    ['RETENTON', 'RETENTION'],
    ['WORKER', 'WORKERS'],
    ['JWT_SECERT', 'JWT_SECRET'],
    ['MAX_CONNECTION', 'MAX_CONNECTIONS'],
    ['ALLOWED_ORIGIN', 'ALLOWED_ORIGINS'],
    ['HEARTBEAT_SECOND', 'HEARTBEAT_SECONDS'],
  ] as const) {
    t.deepEqual(meantBy(name), [meant], name);
  }
});

test('each variable with a letter too few is taken for itself, HOST and PORT apart', (t) => {
  for (const name of VARIABLES.filter((variable) => variable !== 'HOST' && variable !== 'PORT')) {
    t.deepEqual(meantBy(name.slice(0, 3) + name.slice(4)), [name], name);
  }
});

test('the variables of others are not spoken of', (t) => {
  const others = `PATH HOME PWD OLDPWD SHELL TERM LANG LC_ALL USER LOGNAME HOSTNAME HOSTS PORTS POST GHOST EDITOR PAGER TZ TMPDIR CI NO_COLOR
    PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSSLMODE NODE_ENV NODE_OPTIONS DEBUG SECRET_KEY REDIS_URL CACHE_URL BROKER_URL
    SENTRY_DSN DJANGO_SETTINGS_MODULE TEST_DATABASE_URL POSTGRES_PASSWORD AWS_REGION KUBERNETES_PORT KUBERNETES_SERVICE_HOST
    npm_config_loglevel npm_package_name BASH_FUNC_x%% SSH_AUTH_SOCK XDG_RUNTIME_DIR JWT_AUDIENCES_ALLOWED WEB_CONCURRENCY`;
  for (const name of others.split(/\s+/)) t.deepEqual(meantBy(name), [], name);
  for (const name of VARIABLES) t.deepEqual(meantBy(name), [], name);
});

test('a name is another program’s where ours is set beside it, and an empty variable says nothing', (t) => {
  t.deepEqual(meantBy('DATABASE_URI', { DATABASE_URL: 'postgres://db/app' }), []);
  t.deepEqual(meantBy('DATABASE_URI', { DATABASE_URL: '' }), ['DATABASE_URL']);
  t.deepEqual(findSlips({ PUBLIC_CHANEL: '' }), []);
});
