/**
 * Tokens: which are good, which are not, and what the bearer of a bad one is told.
 */
import { createHmac, createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { exportJWK, type JWK } from 'jose';
import { pino } from 'pino';
import { channelFilter } from '../src/event/channel-filter.js';
import { readConfig } from '../src/config/config.js';
import { refusalOf } from '../src/http/errors.js';
import type { RequestError } from '../src/http/request-error.js';
import { createTokens, mintToken, type Tokens } from '../src/access/jwt.js';
import { json, startServer } from './support/http-server.js';
import { inSeconds, SECRET, sign, tokenFor } from './support/token.js';

const logger = pino({ level: 'silent' });

function tokensWith(env: Record<string, string>): Tokens {
  const { tokens } = readConfig(env);
  if (tokens === undefined) throw new Error('no key');
  return createTokens(tokens, logger);
}

const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString();

/** What the bearer is told. Fails when the token is taken. */
async function refusal(tokens: Tokens, token: string): Promise<RequestError> {
  try {
    await tokens.verify(token);
  } catch (error) {
    return refusalOf(error);
  }
  throw new Error('the token was taken');
}

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed25519 = generateKeyPairSync('ed25519');
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' });

/** Another of each kind. Made here, as making them holds up whatever else waits for an answer in this process. */
const strangers: Readonly<Record<string, typeof rsa>> = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ed25519: generateKeyPairSync('ed25519'),
  prime256v1: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  secp384r1: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  secp521r1: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
};

const PAIRS: readonly (readonly [string, { publicKey: KeyObject; privateKey: KeyObject }])[] = [
  ['RS256', rsa],
  ['RS384', rsa],
  ['RS512', rsa],
  ['PS256', rsa],
  ['PS384', rsa],
  ['PS512', rsa],
  ['ES256', p256],
  ['ES384', p384],
  ['ES512', p521],
  ['EdDSA', ed25519],
  ['Ed25519', ed25519],
];
const claims = () => ({ channels: ['user:42', 'org:7:*'], sub: '42', exp: inSeconds(60) });

for (const alg of ['HS256', 'HS384', 'HS512']) {
  test(`${alg}: a token signed with JWT_SECRET is good, one signed with another is not`, async (t) => {
    const tokens = tokensWith({ JWT_SECRET: SECRET });
    const good = claims();
    t.deepEqual(await tokens.verify(await sign(good, { alg })), {
      channels: channelFilter(['user:42', 'org:7:*']),
      subject: '42',
      expiresAt: good.exp * 1000,
    });
    const other = createSecretKey(Buffer.from(SECRET.replace('only', 'just')));
    t.is((await refusal(tokens, await sign(claims(), { alg, key: other }))).code, 'invalid_token');
  });
}

for (const [alg, { publicKey, privateKey }] of PAIRS) {
  test(`${alg}: a token signed with the pair of JWT_PUBLIC_KEY is good, one signed with another is not`, async (t) => {
    const tokens = tokensWith({ JWT_PUBLIC_KEY: pem(publicKey) });
    t.is((await tokens.verify(await sign(claims(), { alg, key: privateKey }))).subject, '42');
    const other = strangers[privateKey.asymmetricKeyDetails?.namedCurve ?? privateKey.asymmetricKeyType ?? ''] ?? rsa;
    t.not(other.privateKey, privateKey);
    t.is((await refusal(tokens, await sign(claims(), { alg, key: other.privateKey }))).code, 'invalid_token');
  });
}

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token with any header, signed or not: jose would refuse to make it. */
function forge(header: object, payload: object, signature: (input: string) => string): string {
  const input = `${base64(header)}.${base64(payload)}`;
  return `${input}.${signature(input)}`;
}

const hmac =
  (key: string, hash = 'sha256') =>
  (input: string) =>
    createHmac(hash, key).update(input).digest('base64url');

test('alg none is refused, however it is spelt, with every kind of key', async (t) => {
  for (const env of [{ JWT_SECRET: SECRET }, { JWT_PUBLIC_KEY: pem(rsa.publicKey) }]) {
    for (const alg of ['none', 'None', 'NONE', '']) {
      for (const signature of [() => '', hmac(SECRET), hmac('')]) {
        const error = await refusal(tokensWith(env), forge({ alg }, claims(), signature));
        t.deepEqual([error.status, error.code], [401, 'invalid_token']);
      }
    }
  }
});

test('a public key is no secret: a token signed with its text as one is refused', async (t) => {
  for (const { publicKey } of [rsa, p256, ed25519]) {
    const tokens = tokensWith({ JWT_PUBLIC_KEY: pem(publicKey) });
    for (const text of [pem(publicKey), pem(publicKey).trim(), pem(publicKey).replaceAll('\n', '\\n')]) {
      for (const [alg, hash] of [
        ['HS256', 'sha256'],
        ['HS512', 'sha512'],
      ] as const) {
        const error = await refusal(tokens, forge({ alg }, claims(), hmac(text, hash)));
        t.deepEqual([error.status, error.code], [401, 'invalid_token']);
        t.regex(error.message, /algorithm/);
      }
    }
  }
});

test('an algorithm counts only with a key of its type', async (t) => {
  for (const [alg, { privateKey }] of PAIRS) {
    t.is(
      (await refusal(tokensWith({ JWT_SECRET: SECRET }), await sign(claims(), { alg, key: privateKey }))).status,
      401,
    );
    for (const [otherAlg, { publicKey }] of PAIRS) {
      if (publicKey.asymmetricKeyType === privateKey.asymmetricKeyType) continue;
      const error = await refusal(
        tokensWith({ JWT_PUBLIC_KEY: pem(publicKey) }),
        await sign(claims(), { alg, key: privateKey }),
      );
      t.is(error.status, 401, `${alg} with a key for ${otherAlg}`);
    }
  }
});

test('a header that says where its key is, or brings it, is not listened to', async (t) => {
  const tokens = tokensWith({ JWT_PUBLIC_KEY: pem(p256.publicKey) });
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = await exportJWK(other.publicKey);
  const server = await startServer(t, (_, response) => json(response, 200, { keys: [jwk] }));
  const { SignJWT } = await import('jose');
  const token = await new SignJWT(claims())
    .setProtectedHeader({ alg: 'ES256', jwk, jku: server.url, x5u: server.url, kid: '../../etc/passwd' })
    .sign(other.privateKey);
  t.is((await refusal(tokens, token)).code, 'invalid_token');
  t.is(server.requests.length, 0);
});

test('a token that was changed after it was signed is refused', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  const [header = '', , signature = ''] = (await tokenFor(['user:1'])).split('.');
  const widened = base64({ channels: ['*'], exp: inSeconds(600) });
  t.is((await refusal(tokens, `${header}.${widened}.${signature}`)).status, 401);
});

test('what is no token is refused', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  const good = await tokenFor(['a']);
  for (const text of [
    '',
    '.',
    '..',
    'abc',
    'a.b.c',
    `${good}.`,
    good.slice(0, -2),
    ` ${good}x`,
    '\0',
    'é'.repeat(50),
  ]) {
    const error = await refusal(tokens, text);
    t.deepEqual([error.status, error.code], [401, 'invalid_token'], JSON.stringify(text));
    t.true(text.length < 5 || !error.message.includes(text));
  }
});

test('an expired token is told from a wrong one, so that a client knows to get a fresh one', async (t) => {
  const error = await refusal(tokensWith({ JWT_SECRET: SECRET }), await tokenFor(['a'], { exp: inSeconds(-1) }));
  t.deepEqual([error.status, error.code], [401, 'expired_token']);
});

test('exp is required, unless JWT_REQUIRE_EXP=false', async (t) => {
  const token = await sign({ channels: ['a'] });
  const error = await refusal(tokensWith({ JWT_SECRET: SECRET }), token);
  t.is(error.code, 'invalid_token');
  t.regex(error.message, /"exp"/);
  const lenient = tokensWith({ JWT_SECRET: SECRET, JWT_REQUIRE_EXP: 'false' });
  t.is((await lenient.verify(token)).expiresAt, Infinity);
  t.is((await refusal(lenient, await tokenFor(['a'], { exp: inSeconds(-1) }))).code, 'expired_token');
});

test('a token is not good before its time', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  const error = await refusal(tokens, await tokenFor(['a'], { nbf: inSeconds(60) }));
  t.is(error.code, 'invalid_token');
  t.regex(error.message, /not valid yet/);
  await t.notThrowsAsync(tokens.verify(await tokenFor(['a'], { nbf: inSeconds(-60) })));
});

test('JWT_CLOCK_TOLERANCE_SECONDS moves both ends of the time in which a token is good', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET, JWT_CLOCK_TOLERANCE_SECONDS: '30' });
  await t.notThrowsAsync(tokens.verify(await tokenFor(['a'], { nbf: inSeconds(20) })));
  const exp = inSeconds(-20);
  t.is((await tokens.verify(await tokenFor(['a'], { exp }))).expiresAt, (exp + 30) * 1000);
  t.is((await refusal(tokens, await tokenFor(['a'], { exp: inSeconds(-40) }))).code, 'expired_token');
});

test('iss and aud have to be what JWT_ISSUER and JWT_AUDIENCE say', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET, JWT_ISSUER: 'shop', JWT_AUDIENCE: 'relay,other' });
  await t.notThrowsAsync(tokens.verify(await tokenFor(['a'], { iss: 'shop', aud: 'relay' })));
  await t.notThrowsAsync(tokens.verify(await tokenFor(['a'], { iss: 'shop', aud: ['x', 'other'] })));
  for (const [wrong, claim] of [
    [{ iss: 'shop', aud: 'third' }, 'aud'],
    [{ iss: 'shop' }, 'aud'],
    [{ iss: 'Shop', aud: 'relay' }, 'iss'],
    [{ aud: 'relay' }, 'iss'],
  ] as const) {
    const { aud, ...others } = { aud: undefined, ...wrong };
    const error = await refusal(tokens, await tokenFor(['a'], { ...others, ...(aud === undefined ? {} : { aud }) }));
    t.regex(error.message, new RegExp(`"${claim}"`));
  }
});

test('the claim with the channels can have another name, and a missing one names nothing', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET, JWT_CHANNELS_CLAIM: 'https://shop.example/may_read' });
  const { channels } = await tokens.verify(await tokenFor(['a'], { 'https://shop.example/may_read': ['b'] }));
  t.deepEqual(channels, channelFilter(['b']));
  t.deepEqual((await tokens.verify(await tokenFor(['a']))).channels, channelFilter([]));
  // Nor does one that every object has.
  const odd = tokensWith({ JWT_SECRET: SECRET, JWT_CHANNELS_CLAIM: 'constructor' });
  t.deepEqual((await odd.verify(await tokenFor(['a']))).channels, channelFilter([]));
});

test('a claim that is no list of channels is refused, and named', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  for (const channels of ['user:42', { 0: 'user:42' }, [42], [['a']], null, ['user:4*'], [''], ['x'.repeat(300)]]) {
    const error = await refusal(tokens, await sign({ channels, exp: inSeconds(60) }));
    t.deepEqual([error.status, error.code], [401, 'invalid_token'], JSON.stringify(channels));
    t.regex(error.message, /"channels"/);
  }
});

test("Mercure's claim is read too, and its templates allow nothing", async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  const read = async (payload: object) =>
    (await tokens.verify(await sign({ exp: inSeconds(60), ...payload }))).channels;
  t.deepEqual(await read({ mercure: { subscribe: ['news', 'user:1'] } }), channelFilter(['news', 'user:1']));
  t.deepEqual(await read({ channels: ['a'], mercure: { subscribe: ['b:*'] } }), channelFilter(['a', 'b:*']));
  t.deepEqual(await read({ mercure: { subscribe: ['*'] } }), channelFilter(['*']));
  t.deepEqual(await read({ mercure: { subscribe: ['user:{id}'] } }), channelFilter(['user:{id}']));
  t.deepEqual(await read({ mercure: { subscribe: ['a*', 'b'], publish: ['*'] } }), channelFilter(['b']));
  for (const mercure of [null, 'x', {}, { subscribe: '*' }, { subscribe: [1] }, { publish: ['*'] }]) {
    t.deepEqual(await read({ mercure }), channelFilter([]));
  }
});

interface Issuer {
  readonly pair: typeof rsa;
  readonly jwk: JWK;
  token(): Promise<string>;
}

// One at a time, and before the others: these wait for an issuer that lives in this process.
async function issuerKey(kid: string | undefined, alg = 'ES256'): Promise<Issuer> {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = { ...(await exportJWK(pair.publicKey)), alg, ...(kid === undefined ? {} : { kid }) };
  return {
    pair,
    jwk,
    token: () => sign(claims(), { alg, key: pair.privateKey, ...(kid === undefined ? {} : { kid }) }),
  };
}

test.serial(
  'a key set: tokens by each of its keys are good, it is read once for all, and a rotated key counts at once',
  async (t) => {
    const [first, second, third] = [await issuerKey('1'), await issuerKey('2'), await issuerKey('3')];
    let keys = [first.jwk, second.jwk];
    const server = await startServer(t, (_, response) => json(response, 200, { keys }));
    const tokens = tokensWith({ JWKS_URL: server.url });
    const bearers = Array.from({ length: 100 }, (_, index) => (index % 2 ? first : second).token());
    await Promise.all(bearers.map(async (token) => tokens.verify(await token)));
    t.is(server.requests.length, 1);
    t.is((await refusal(tokens, await third.token())).code, 'invalid_token');

    keys = [second.jwk, third.jwk];
    t.is((await tokens.verify(await third.token())).subject, '42');
    t.is((await refusal(tokens, await first.token())).code, 'invalid_token', 'a key that was withdrawn');
  },
);

test.serial('tokens by made-up keys do not send the relay to the issuer with each', async (t) => {
  const { jwk, token } = await issuerKey('1');
  const server = await startServer(t, (_, response) => json(response, 200, { keys: [jwk] }));
  const tokens = tokensWith({ JWKS_URL: server.url });
  for (let n = 0; n < 50; n++) {
    const stranger = await issuerKey(`made up ${n}`);
    t.is((await refusal(tokens, await stranger.token())).status, 401);
  }
  t.true(server.requests.length <= 4, `${server.requests.length} requests`);
  await t.notThrowsAsync(tokens.verify(await token()));
});

test.serial('a key set without names: a token may be by any of its keys', async (t) => {
  const known = [await issuerKey(undefined), await issuerKey(undefined)];
  const server = await startServer(t, (_, response) => json(response, 200, { keys: known.map(({ jwk }) => jwk) }));
  const tokens = tokensWith({ JWKS_URL: server.url });
  for (const { token } of known) await t.notThrowsAsync(tokens.verify(await token()));
  const stranger = await issuerKey(undefined);
  t.is((await refusal(tokens, await stranger.token())).code, 'invalid_token');
});

test.serial('a secret in a key set is no key: it is public', async (t) => {
  const secret = Buffer.from(SECRET);
  const jwk = { kty: 'oct', k: secret.toString('base64url'), alg: 'HS256', kid: '1' };
  const server = await startServer(t, (_, response) => json(response, 200, { keys: [jwk] }));
  const token = await sign(claims(), { kid: '1' });
  t.is((await refusal(tokensWith({ JWKS_URL: server.url }), token)).status, 401);
});

test.serial('an issuer that is away keeps nobody out who has a good token, once its keys are known', async (t) => {
  const { jwk, token } = await issuerKey('1');
  const server = await startServer(t, (_, response) => json(response, 200, { keys: [jwk] }));
  const tokens = tokensWith({ JWKS_URL: server.url });
  await t.notThrowsAsync(tokens.verify(await token()));
  await server.close();
  await t.notThrowsAsync(tokens.verify(await token()));
  const stranger = await issuerKey('2');
  t.is((await refusal(tokens, await stranger.token())).status, 401);
});

test.serial('an issuer that does not answer keeps nobody waiting whose key is known', async (t) => {
  const { jwk, token } = await issuerKey('1');
  let isSilent = false;
  let isGivenUp = false;
  const server = await startServer(t, (request, response) => {
    if (!isSilent) return json(response, 200, { keys: [jwk] });
    request.socket.once('close', () => (isGivenUp = true));
  });
  const tokens = tokensWith({ JWKS_URL: server.url });
  await tokens.verify(await token());
  isSilent = true;
  const bearer = await token();
  const { now } = Date;
  t.teardown(() => (Date.now = now));
  Date.now = () => now() + 11 * 60_000;
  await tokens.verify(bearer);
  t.false(isGivenUp, 'it has waited for the issuer');
});

test.serial('while no key is known, that is trouble of ours and not of the token', async (t) => {
  const { jwk, token } = await issuerKey('1');
  const answers = [
    (await startServer(t, (_, response) => json(response, 500, {}))).url,
    (await startServer(t, (_, response) => response.end('<html>'))).url,
    (await startServer(t, (_, response) => json(response, 200, { keys: 'none' }))).url,
    // A set that is larger than any, and small on its way.
    (
      await startServer(t, (_, response) => {
        response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' });
        response.end(gzipSync(`{"keys": [${JSON.stringify(jwk)}]}${' '.repeat(2 ** 21)}`));
      })
    ).url,
    'http://127.0.0.1:1/',
  ];
  for (const JWKS_URL of answers) {
    const error = await refusal(tokensWith({ JWKS_URL }), await token());
    t.deepEqual([error.status, error.code, error.temporary], [503, 'auth_unavailable', true]);
  }
});

test.serial('what mintToken makes is accepted with the same settings', async (t) => {
  const env = { JWT_SECRET: SECRET, JWT_ISSUER: 'shop', JWT_AUDIENCE: 'relay', JWT_CHANNELS_CLAIM: 'may_read' };
  const { tokens } = readConfig(env);
  if (tokens === undefined) return t.fail();
  const token = await mintToken(tokens, { channels: ['a', 'b:*'], subject: '7', expiresInSeconds: 90 });
  const grant = await tokensWith(env).verify(token);
  t.deepEqual([grant.channels, grant.subject], [channelFilter(['a', 'b:*']), '7']);
  t.true(Math.abs(grant.expiresAt - Date.now() - 90_000) < 2000);
});

/** A token whose claims are this text: JSON can say numbers that no value in JavaScript is written as. */
function claiming(text: string): string {
  const input = `${base64({ alg: 'HS256' })}.${Buffer.from(text).toString('base64url')}`;
  return `${input}.${hmac(SECRET)(input)}`;
}

test('R8: a token ends at a time that there is: none beyond all numbers, in milliseconds, or before 1970', async (t) => {
  const now = Math.floor(Date.now() / 1000);
  for (const env of [{}, { JWT_REQUIRE_EXP: 'false' }, { JWT_CLOCK_TOLERANCE_SECONDS: '600' }]) {
    const tokens = tokensWith({ JWT_SECRET: SECRET, ...env });
    for (const exp of [
      '1e400',
      '-1e400',
      '1e300',
      String(Date.now() + 60_000),
      '253402300800',
      '"1e400"',
      'null',
      '[]',
    ]) {
      const error = await refusal(tokens, claiming(`{"channels":["*"],"exp":${exp}}`));
      t.is(error.status, 401, exp);
    }
    for (const claim of ['nbf', 'iat']) {
      for (const value of ['-1e400', '-1', '1e400', '"0"', 'null']) {
        const error = await refusal(tokens, claiming(`{"channels":["*"],"exp":${now + 60},"${claim}":${value}}`));
        t.deepEqual([error.status, error.code], [401, 'invalid_token'], `${claim} ${value}`);
      }
    }
    const late = await tokens.verify(claiming(`{"channels":["*"],"exp":253402300799,"nbf":0,"iat":${now}.5}`));
    t.true(Number.isFinite(late.expiresAt));
  }
});

test('R8: a token in a form that is none is refused before it is read', async (t) => {
  const tokens = tokensWith({ JWT_SECRET: SECRET });
  const good = await tokenFor(['a']);
  const [head = '', payload = '', signature = ''] = good.split('.');
  for (const token of [
    `${good} `,
    ` ${good}`,
    `${good}\u00a0`,
    `${head}.${payload}.${signature.slice(0, 5)}\u2003${signature.slice(5)}`,
    `${head}.${payload}.${signature}=`,
    `${good}\n`,
    `${good}.`,
    `${head}.${payload}`,
  ]) {
    t.is((await refusal(tokens, token)).code, 'invalid_token', JSON.stringify(token));
  }
});
