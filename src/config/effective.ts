/**
 * What the configuration comes to: of each variable what holds and where that comes from, with no
 * secret in it.
 */
import { isOperatorError } from '../operator-error.js';
import { readDatabaseUrl } from '../postgres/database-url.js';
import { givenIn, problemsIn, SECRET } from './config.js';
import { describeVariables } from './variables.js';

export interface Setting {
  readonly name: string;
  /** As it would be written, or in words; of a secret, what may be shown. Undefined: nothing. */
  readonly value: string | undefined;
  readonly from: Source;
  readonly isSecret: boolean;
  /** What is expected in its place, where it is not valid. */
  readonly expected?: string;
}

/** `settings`: of the Django project. Else the variable whose value it has is named. */
export type Source = 'environment' | 'settings' | 'default' | (typeof FALLBACKS)[keyof typeof FALLBACKS];

type Environment = Readonly<Record<string, string | undefined>>;

/** Whose value holds where a variable is not set. */
const FALLBACKS = {
  LISTEN_DATABASE_URL: 'DATABASE_URL',
  RETENTION_DATABASE_URL: 'LISTEN_DATABASE_URL',
  ARCHIVE_DATABASE_URL: 'DATABASE_URL',
} as const;
const isFallingBack = (name: string): name is keyof typeof FALLBACKS => name in FALLBACKS;

/** In which `manage.py outbox_relay` names what it has from settings, with commas between. */
const FROM_SETTINGS = 'OUTBOX_RELAY_FROM_SETTINGS';

/** All variables, in the order in which they are documented. */
export function effectiveSettings(env: Environment): Setting[] {
  const given = givenIn(env);
  const problems = problemsIn(env);
  const fromSettings = new Set(env[FROM_SETTINGS]?.split(','));
  return describeVariables().map(({ name, default: standard }) => {
    const own = given[name];
    const isSecret = SECRET.has(name);
    const expected = problems.find((problem) => problem.name === name)?.expected;
    const more = { isSecret, ...(expected === undefined ? {} : { expected }) };
    if (own !== undefined) {
      const from = fromSettings.has(name) ? 'settings' : 'environment';
      return { name, value: isSecret ? withoutSecret(name, own) : own, from, ...more };
    }
    const fallback = fallbackOf(name, given);
    if (fallback) return { name, value: withoutSecret(name, fallback.value), from: fallback.from, ...more };
    const isAddress = isFallingBack(name) || name === 'DATABASE_URL';
    const hasDatabase = given['DATABASE_URL'] ?? given['ARCHIVE_DATABASE_URL'];
    const value = name === 'LOG_LEVEL' ? (hasDatabase ? 'info' : 'warn') : standard;
    return { name, value: isAddress ? undefined : value, from: 'default', ...more };
  });
}

function fallbackOf(
  name: string,
  given: Readonly<Record<string, string>>,
): { readonly from: (typeof FALLBACKS)[keyof typeof FALLBACKS]; readonly value: string } | undefined {
  // Without NATS_URL there is no archive apart from the database.
  if (!isFallingBack(name) || (name === 'ARCHIVE_DATABASE_URL' && !given['NATS_URL'])) return undefined;
  const from = FALLBACKS[name];
  const value = given[from];
  return value === undefined ? fallbackOf(from, given) : { from, value };
}

/** What may be shown of it: where it leads, and not with which password. */
function withoutSecret(name: string, value: string): string {
  if (/DATABASE_URL$/.test(name)) return withoutPassword(value);
  if (name === 'NATS_URL') return value.split(',').map(natsServer).join(',');
  if (/_URL$/.test(name)) return URL.canParse(value) ? `${new URL(value).origin}/…` : '(not shown)';
  return `(not shown: ${Buffer.byteLength(value)} bytes)`;
}

/** Without user, password or token. */
function natsServer(text: string): string {
  const [, scheme = '', credentials, host] = /^\s*(\w+:\/\/)?(?:([^@/]*)@)?([\w.:[\]-]+)\s*$/.exec(text) ?? [];
  return host === undefined ? '(not shown)' : `${scheme}${credentials === undefined ? '' : '(not shown)@'}${host}`;
}

function withoutPassword(text: string): string {
  try {
    const { user, password, host, port, database } = readDatabaseUrl(text).config;
    const who = user === undefined ? '' : `${encodeURIComponent(user)}${password ? ':(not shown)' : ''}@`;
    const place = `${host ?? ''}${port === undefined ? '' : `:${port}`}`;
    return `postgres://${who}${place}/${encodeURIComponent(database ?? '')}`;
  } catch (error) {
    if (isOperatorError(error, 'bad-database-url')) return '(not shown)';
    throw error;
  }
}
