/**
 * A token in words: what it says, whether the relay takes it, and what it lets its bearer read. The
 * judge is the relay's own code.
 */
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { pino } from 'pino';
import { Denied, type DenialCode } from '../access/denied.js';
import { createTokens, type Grant } from '../access/jwt.js';
import type { Config } from '../config/config.js';
import { allows, ChannelError, type ChannelFilter } from '../event/channel-filter.js';
import { no, unknown, yes, type Explanation, type Step } from './steps.js';

/**
 * @param channels of which it is asked whether the token opens them
 * @param verify what verifies it. Default: what a relay with these settings would.
 */
export async function explainToken(
  token: string,
  channels: readonly string[],
  config: Config,
  verify: (token: string) => Promise<Grant | undefined> = verifierOf(config),
): Promise<TokenExplanation> {
  const subject = `a token of ${token.length} characters`;
  const steps: Step[] = [says(token, config)];
  if (config.tokens === undefined) {
    steps.push(
      no(
        'accepted',
        'tokens are ignored: there is no key to verify them with',
        'set JWT_SECRET, JWT_PUBLIC_KEY or JWKS_URL, as the relay has it',
      ),
    );
    return { subject, steps };
  }
  let grant: Grant | undefined;
  try {
    grant = await verify(token);
  } catch (error) {
    if (!(error instanceof Denied)) throw error;
    steps.push(no('accepted', `${error.code}: ${error.message}`, cureOf(error, config)));
    return { subject, steps, refusal: error.code };
  }
  if (grant === undefined) return { subject, steps };
  const until = grant.expiresAt === Infinity ? 'for ever' : `until ${new Date(grant.expiresAt).toISOString()}`;
  const who = grant.subject === undefined ? '' : ` as ${JSON.stringify(grant.subject)}`;
  steps.push(yes('accepted', `${until}${who}`), opens(grant.channels, config));
  for (const channel of channels) steps.push(mayRead(channel, grant.channels, config));
  return { subject, steps, grant };
}

/** An explanation, with what was found. */
export interface TokenExplanation extends Explanation {
  /** Undefined: it is not good. */
  readonly grant?: Grant;
  readonly refusal?: DenialCode;
}

function verifierOf({ tokens }: Config): (token: string) => Promise<Grant | undefined> {
  const verifier = tokens && createTokens(tokens, pino({ level: 'silent' }));
  return async (token) => verifier?.verify(token);
}

function says(token: string, { tokens }: Config): Step {
  try {
    const { alg, kid } = decodeProtectedHeader(token);
    const { iss, aud, exp, iat, ...others } = decodeJwt(token);
    const time = (value: unknown) =>
      typeof value === 'number' && Math.abs(value) < 8e12
        ? new Date(value * 1000).toISOString()
        : JSON.stringify(value);
    const claim = tokens?.channelsClaim ?? 'channels';
    const parts = [
      `algorithm ${String(alg)}`,
      ...(kid === undefined ? [] : [`key ${kid}`]),
      ...(iss === undefined ? [] : [`iss ${JSON.stringify(iss)}`]),
      ...(aud === undefined ? [] : [`aud ${JSON.stringify(aud)}`]),
      ...(iat === undefined ? [] : [`issued ${time(iat)}`]),
      exp === undefined ? 'no end' : `ends ${time(exp)}`,
      claim in others ? `${claim} ${JSON.stringify(others[claim])}` : `no claim "${claim}"`,
    ];
    return yes('says', parts.join(', '));
  } catch {
    return no(
      'says',
      'it is no JWT: three parts in base64url, with dots between',
      'see that it was copied whole, without quotes',
    );
  }
}

function cureOf({ code, message }: Denied, { tokens }: Config): string | undefined {
  if (code === 'expired_token')
    return 'have the application renew it before it ends; or see to the clocks (JWT_CLOCK_TOLERANCE_SECONDS)';
  if (code === 'auth_unavailable') return 'see that JWKS_URL can be reached from here';
  if (message.includes('"iss"')) return `JWT_ISSUER is ${JSON.stringify(tokens?.issuer)}`;
  if (message.includes('"aud"')) return `JWT_AUDIENCE is ${JSON.stringify(tokens?.audience)}`;
  if (message.includes('"exp"')) return 'give it an end, or set JWT_REQUIRE_EXP=false';
  if (message.includes('signature')) return 'see that the application and the relay have the same key';
  return undefined;
}

function opens({ channels, prefixes }: ChannelFilter, { tokens }: Config): Step {
  const names = [...channels, ...prefixes.map((prefix) => `${prefix}*`)];
  if (names.length > 0) return yes('opens', names.join(', '));
  const claim = tokens?.channelsClaim ?? 'channels';
  return unknown(
    'opens',
    `nothing but what is public: its claim "${claim}" lists no channel`,
    `have it list some (JWT_CHANNELS_CLAIM is ${claim})`,
  );
}

function mayRead(channel: string, granted: ChannelFilter, { publicChannels }: Config): Step {
  try {
    if (allows(publicChannels, channel)) return yes(channel, 'open to anybody: it is public');
    if (allows(granted, channel)) return yes(channel, 'open');
    return no(channel, 'forbidden: the token does not list it, nor a prefix of it, and it is not public');
  } catch (error) {
    if (error instanceof ChannelError) return no(channel, error.message);
    throw error;
  }
}
