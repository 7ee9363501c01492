/**
 * `explain`: why something arrives or does not, step by step, of an event, a token or an address.
 */
import { text } from 'node:stream/consumers';
import { commandLine } from '../../command-name.js';
import { readConfig } from '../../config/config.js';
import { LARGEST_ID } from '../../event/event.js';
import { isGood, type Explanation } from '../../explain/steps.js';
import { explainToken } from '../../explain/token.js';
import { OperatorError } from '../../operator-error.js';
import { several, type Add } from '../face/command-face.js';
import { required } from '../face/required.js';
import { metricsPortUrl, relayUrl, tokenSource } from '../relay/access.js';
import { coloursFor } from '../terminal/colours.js';
import { explainEvent } from './event.js';
import { explanationJson, explanationText } from './steps.js';
import { explainUrl } from './url.js';

interface ExplainOptions {
  readonly channel?: readonly string[];
  readonly url?: string;
  readonly token?: string;
  readonly header?: readonly string[];
  readonly request: boolean;
  readonly json?: true;
}

export function addExplain(add: Add): void {
  add({
    name: 'explain',
    summary: 'say why an event, a token or an address works or does not',
    description:
      "Takes an event's id, a token, or the address of a stream (or its path alone), and says step by step what happens: " +
      'to the event, whether it is committed, placed and there for readers; of the token, what it opens, and why not; to ' +
      "the request, what the relay's own code makes of it with these settings, and what the address really answers. It " +
      'changes nothing, and exits with 1 where a step says no. Run it with the settings of the relay.',
    environment: [
      'DATABASE_URL',
      'HOST',
      'PORT',
      'METRICS_PORT',
      'PUBLIC_CHANNELS',
      'JWT_SECRET',
      'JWT_PUBLIC_KEY',
      'JWKS_URL',
      'FORWARD_AUTH_URL',
    ],
    example: "outbox-relay explain '/events?channel=orders' --token eyJ…",
  })
    .argument('<what>', 'an id, a token, an address or a path; - reads a token from standard input')
    .option('--channel <channel>', 'of a token: whether it opens this channel; may be repeated', several)
    .option('--token <token>', 'of an address or an event: the token to ask with (or OUTBOX_TOKEN)')
    .option(
      '--header <line>',
      'of an address: a header that the client sends, as in "Origin: https://…"; may be repeated',
      several,
    )
    .option('--no-request', 'of an address: do not ask it')
    .option('--url <address>', 'of an event: the relay to be asked for it (default: http://HOST:PORT)')
    .option('--json', 'print the steps as JSON')
    .action(runExplain);
}

async function runExplain(what: string, options: ExplainOptions): Promise<void> {
  const explanation = await explained(what, options);
  console.log(options.json ? explanationJson(explanation) : explanationText(explanation, coloursFor(process.stdout)));
  if (!isGood(explanation)) process.exitCode = 1;
}

async function explained(what: string, options: ExplainOptions): Promise<Explanation> {
  const config = readConfig(process.env);
  const { channel: channels = [] } = options;
  if (/^\d+$/.test(what)) {
    if (BigInt(what) > LARGEST_ID) throw new OperatorError('usage', `${what} is too large for an id.`);
    const example = `explain ${what}`;
    return explainEvent({
      id: what,
      databaseUrl: required(config.databaseUrl, { who: ', with the settings of the relay', example }),
      config,
      url: options.url === undefined && config.port === 0 ? undefined : relayUrl(options.url, config),
      metricsUrl: metricsPortUrl(config),
      tokenFor: (channel) => tokenSource(options.token, [channel], config)(),
    });
  }
  if (/^(\/|https?:\/\/)/i.test(what)) {
    if (!what.startsWith('/') && !URL.canParse(what))
      throw new OperatorError('usage', `${what} is not a valid address.`);
    return explainUrl({ address: what, headers: headersOf(options), config, isAsked: options.request });
  }
  const token = what === '-' ? (await text(process.stdin)).trim() : what;
  if (/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token) || what === '-') return explainToken(token, channels, config);
  throw new OperatorError(
    'usage',
    'What is it? Give the id of an event, a token, or an address, as in: ' +
      commandLine("explain '/events?channel=orders'"),
  );
}

/** @throws OperatorError `usage` */
function headersOf({ header: lines = [], token: given }: ExplainOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  const token = given || process.env['OUTBOX_TOKEN'];
  if (token) headers['Authorization'] = `Bearer ${token}`;
  for (const line of lines) {
    const [, name = '', value = ''] =
      /^([!#$%&'*+\-.^_`|~\w]+):[ \t]*([^\u0000-\u0008\u000a-\u001f\u007f]*)$/.exec(line) ?? [];
    if (name === '')
      throw new OperatorError(
        'usage',
        '--header: expected a name and a value, as in "Origin: https://app.example.com"',
      );
    headers[name] = value;
  }
  return headers;
}
