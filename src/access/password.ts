/**
 * A password that one signs in with, and the sessions that follow. Nothing of them is kept: what a
 * browser gets is the time at which its session ends, signed with a key that comes from the
 * password. So all relays with one password know it, and a new password ends all sessions.
 */
import { createHmac, createSecretKey, scrypt, timingSafeEqual, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

/** Least length of a password. */
export const PASSWORD_CHARACTERS = 12;
/** How long a session lasts. */
export const SESSION_SECONDS = 8 * 3600;

/**
 * Some 30 ms of work: whoever has got hold of a session can't try passwords on it faster. The same
 * for all, as there is nowhere to keep another; a password of 12 random characters is beyond any
 * table.
 */
const SALT = 'outbox-relay console session 1';
const KEY_BYTES = 32;
const COST = { N: 2 ** 14, r: 8, p: 1 };
const SIGNED = /^(\d{10,16})\.([\w-]{43})$/;

const derive = promisify<KeyObject, string, number, typeof COST, Buffer>((password, salt, bytes, cost, done) =>
  scrypt(password.export(), salt, bytes, cost, done),
);

/** The password as a key, which no log shows. @throws Error when it is too short */
export function readPassword(text: string): KeyObject {
  if (Array.from(text).length < PASSWORD_CHARACTERS) throw new Error(`shorter than ${PASSWORD_CHARACTERS} characters`);
  return createSecretKey(Buffer.from(text));
}

export interface Sessions {
  /** A session that begins now, as a cookie has it; undefined: that is not the password. */
  signIn(password: string): Promise<string | undefined>;
  /** When a session ends, in ms since 1970; undefined: it is none, or has ended. */
  endOf(session: string): Promise<number | undefined>;
}

export function createSessions(password: KeyObject): Sessions {
  let deriving: Promise<Buffer> | undefined;
  const key = () => (deriving ??= derive(password, SALT, KEY_BYTES, COST));
  // Of equal length, so that comparing takes as long whatever was given.
  const digest = (text: string | Buffer) => createHmac('sha256', SALT).update(text).digest();
  const expected = digest(password.export());

  const sign = async (end: string) =>
    createHmac('sha256', await key())
      .update(end)
      .digest('base64url');

  return {
    async signIn(given) {
      if (!timingSafeEqual(digest(given), expected)) return undefined;
      const end = String(Date.now() + SESSION_SECONDS * 1000);
      return `${end}.${await sign(end)}`;
    },
    async endOf(session) {
      const [, end, signature] = SIGNED.exec(session) ?? [];
      if (end === undefined || signature === undefined || Number(end) <= Date.now()) return undefined;
      return timingSafeEqual(Buffer.from(signature), Buffer.from(await sign(end))) ? Number(end) : undefined;
    },
  };
}
