/**
 * Kinds of values that variables of the environment may have. Each says, in words that follow
 * "expected", what it wants.
 */
import type { KeyObject } from 'node:crypto';
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

/** As the words `true` and `false`. */
export const boolean = (fallback: boolean) =>
  z
    .enum(['true', 'false'], 'true or false')
    .default(fallback ? 'true' : 'false')
    .transform((text) => text === 'true');

/** Of an HTTP server, without a user and a password in it. */
export const httpUrl = z
  .string()
  .refine((text) => {
    if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false;
    const { username, password } = new URL(text);
    return username === '' && password === '';
  }, 'an http:// or https:// URL, with no user and password in it')
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

/** One of a few words, in any case. */
export const oneOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z
    .string()
    .transform((text) => text.toLowerCase())
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
