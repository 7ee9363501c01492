/**
 * `token`: one for the channels that are named.
 */
import { mintToken } from '../../access/jwt.js';
import { commandLine } from '../../command-name.js';
import { readConfig } from '../../config/config.js';
import { ChannelError } from '../../event/channel-filter.js';
import { OperatorError } from '../../operator-error.js';
import type { Span } from '../face/command-face.js';
import { safeJson } from '../terminal/terminal-text.js';

export interface TokenOptions {
  readonly channel?: readonly string[];
  readonly expires: Span;
  readonly sub?: string;
  readonly json?: true;
}

export async function runToken({ channel: channels = [], expires, sub: subject, json }: TokenOptions): Promise<void> {
  if (channels.length === 0) {
    throw new OperatorError(
      'usage',
      `Name what the token is for: ${commandLine("token --channel user:42 --channel 'org:7:*'")}`,
    );
  }
  const { tokens } = readConfig(process.env);
  if (tokens?.secret === undefined) {
    throw new OperatorError(
      'usage',
      'A token is signed with the JWT_SECRET of the relay, which is not set here. With JWT_PUBLIC_KEY or JWKS_URL only the issuer can make tokens.',
    );
  }
  try {
    const token = await mintToken(tokens, { channels, subject, expiresInSeconds: expires.seconds });
    console.log(json ? safeJson({ token, channels, subject, expiresInSeconds: expires.seconds }) : token);
  } catch (error) {
    if (error instanceof ChannelError) throw new OperatorError('usage', error.message, { cause: error });
    throw error;
  }
}
