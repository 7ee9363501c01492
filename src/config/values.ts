/**
 * Kinds of values that variables of the environment may have. Each says, in words that follow
 * "expected", what it wants.
 */
import type { KeyObject } from 'node:crypto';
import { accessSync, constants } from 'node:fs';
import { z } from 'zod';
import { withoutBlanks } from '../access/blanks.js';
import { ChannelError, channelFilter } from '../event/channel-filter.js';
import { isOperatorError } from '../operator-error.js';
import { readDatabaseUrl } from '../postgres/database-url.js';
import { secondsIn, SPAN_FORM } from './duration.js';

/** Of PostgreSQL; files that it names have to be there. */
export const databaseUrl = z
  .string()
  .superRefine((text, context) => {
    try {
      readDatabaseUrl(text);
    } catch (error) {
      if (!isOperatorError(error, 'bad-database-url')) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  })
  .optional();

/** Both bounds included. */
export const number = (fallback: number, from: number, to: number) =>
  z
    .string()
    .default(String(fallback))
    .refine(
      (text) => /^\d+(\.\d+)?$/.test(text) && Number(text) >= from && Number(text) <= to,
      `a number from ${from} to ${to}`,
    )
    .transform(Number);

/** Whole, both bounds included, and undefined where nothing is set. */
export const integerOrNone = (from: number, to: number) =>
  z
    .string()
    .refine(
      (text) => /^\d+$/.test(text) && Number(text) >= from && Number(text) <= to,
      `a whole number from ${from} to ${to}`,
    )
    .transform(Number)
    .optional();

/** Whole, both bounds included. */
export const integer = (fallback: number, from: number, to: number) =>
  number(fallback, from, to).refine(Number.isInteger, `a whole number from ${from} to ${to}`);

/** In seconds; undefined where nothing is set. */
export const spanOrNone = z
  .string()
  .transform((text, context) => {
    const seconds = secondsIn(text);
    if (seconds !== undefined) return seconds;
    context.addIssue({ code: 'custom', message: SPAN_FORM });
    return z.NEVER;
  })
  .optional();

/** What stands between commas, blanks around it cut off. */
export const list = z
  .string()
  .default('')
  .transform((text) =>
    text
      .split(',')
      .map(withoutBlanks)
      .filter((item) => item !== ''),
  );

/** As the words `true` and `false`, in any case: Python writes them `True` and `False`. */
export const boolean = (fallback: boolean) =>
  z
    .string()
    .default(fallback ? 'true' : 'false')
    .transform((text) => text.toLowerCase())
    .pipe(z.enum(['true', 'false'], 'true or false'))
    .transform((text) => text === 'true');

/** Of an HTTP server, without a user and a password in it. */
export const httpUrl = z
  .string()
  .refine((text) => {
    if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return false;
    const { username, password } = new URL(text);
    return username === '' && password === '';
  }, 'an http:// or https:// URL, with no user and password in it')
  .optional();

/** Servers of one NATS cluster, separated by commas, all with TLS or none. Default: undefined. */
export const natsServers = z
  .string()
  .transform((text) => text.split(',').map(withoutBlanks))
  .refine((servers) => {
    const schemes = new Set(servers.map((server) => /^(nats|tls):\/\/[^/?#]+$/i.exec(server)?.[1]?.toLowerCase()));
    return schemes.size === 1 && !schemes.has(undefined) && servers.every((server) => URL.canParse(server));
  }, 'URLs separated by commas, as in nats://user:password@host:4222, or all of them tls:// to encrypt, with no path')
  .optional();

/** A name that may be a part of a subject of NATS. */
export const subjectPart = z.string().regex(/^[A-Za-z0-9_-]{1,32}$/, 'up to 32 letters, digits, - and _');

/** The path of a file that is there. */
export const readableFile = z
  .string()
  .refine((path) => {
    try {
      accessSync(path, constants.R_OK);
      return true;
    } catch {
      return false;
    }
  }, 'the path of a file that can be read')
  .optional();

/** A key that `read` makes of the text. What is wrong with it is told without quoting it. */
export const key = (read: (text: string) => KeyObject, expected: string) =>
  z
    .string()
    .transform((text, context) => {
      try {
        return read(text);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        context.addIssue({ code: 'custom', message: `${expected} (${message.split('\n', 1)[0] ?? ''})` });
        return z.NEVER;
      }
    })
    .optional();

/** The same, and undefined where nothing is set. */
export const booleanOrNone = z
  .string()
  .transform((text) => text.toLowerCase())
  .pipe(z.enum(['true', 'false'], 'true or false'))
  .transform((text) => text === 'true')
  .optional();

/** Some of a few words, separated by commas. */
export const someOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  list
    .transform((items) => items.map((item) => item.toLowerCase()))
    .pipe(z.array(z.enum(words, `some of ${words.join(', ')}, separated by commas`)));

/**
 * One of a few words, in any case.
 *
 * @param others what else is taken for which of them, in lower case
 */
export const oneOf = <const T extends readonly [string, ...string[]]>(
  words: T,
  others: Readonly<Record<string, T[number]>> = {},
) =>
  z
    .string()
    .transform((text) => others[text.toLowerCase()] ?? text.toLowerCase())
    .pipe(z.enum(words, `one of ${words.join(', ')}`));

/** Origins as browsers send them (RFC 6454, section 6.2), or `*` alone. */
export const origins = list.transform((items, context) => {
  const found = items.map((item) => (item === '*' ? item : originIn(item)));
  if (found.every((origin) => origin !== undefined) && (!found.includes('*') || found.length === 1)) return found;
  const isNull = items.some((item) => item.toLowerCase() === 'null');
  context.addIssue({
    code: 'custom',
    message:
      'origins separated by commas, as in https://app.example.com or capacitor://localhost, with no path; or * alone' +
      (isNull ? '. null, which any sandboxed page and any file sends, names nobody' : ''),
  });
  return z.NEVER;
});

/** Channels and patterns, as clients ask for them. */
export const channels = list.transform((names, context) => {
  try {
    return channelFilter(names);
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    context.addIssue({
      code: 'custom',
      message: `channels separated by commas, as in news,status:*. ${error.message}`,
    });
    return z.NEVER;
  }
});

/** RFC 6265, section 4.1.1: a token in the sense of HTTP. */
export const cookieName = z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/, 'the name of a cookie');

/** The origin as browsers send it: lower case, no slash at the end. Undefined: the text is none. */
function originIn(text: string): string | undefined {
  const [, scheme = '', authority = ''] = /^([a-z][a-z\d+.-]*):\/\/([^/?#\\@\s*]+)\/?$/i.exec(text) ?? [];
  if (authority === '' || !URL.canParse(text)) return undefined;
  // Apps have schemes of their own, whose origins only their makers know the form of.
  return /^https?$/i.test(scheme) ? new URL(text).origin : `${scheme}://${authority}`.toLowerCase();
}
