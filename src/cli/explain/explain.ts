/**
 * `explain`: why something arrives or does not, step by step, of an event, a token or an address.
 */
import { text } from 'node:stream/consumers';
import { commandLine } from '../../command-name.js';
import { readConfig } from '../../config/config.js';
import { LARGEST_ID } from '../../event/event.js';
import { isGood, type Explanation } from '../../explain/steps.js';
import { OperatorError } from '../../operator-error.js';
import { required } from '../face/required.js';
import { metricsPortUrl, relayUrl, tokenSource } from '../relay/access.js';
import { coloursFor } from '../terminal/colours.js';
import { explanationJson, explanationText } from './steps.js';

interface ExplainOptions {
  readonly channel?: readonly string[];
  readonly url?: string;
  readonly token?: string;
  readonly header?: readonly string[];
  readonly request: boolean;
  readonly json?: true;
}

export async function runExplain(what: string, options: ExplainOptions): Promise<void> {
  const explanation = await explained(what, options);
  console.log(options.json ? explanationJson(explanation) : explanationText(explanation, coloursFor(process.stdout)));
  if (!isGood(explanation)) process.exitCode = 1;
}

/** Each kind by code of its own, which is loaded for that alone. */
async function explained(what: string, options: ExplainOptions): Promise<Explanation> {
  const config = readConfig(process.env);
  const { channel: channels = [] } = options;
  if (/^\d+$/.test(what)) {
    if (BigInt(what) > LARGEST_ID) throw new OperatorError('usage', `${what} is too large for an id.`);
    const example = `explain ${what}`;
    const { explainEvent } = await import('./event.js');
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
    const { explainUrl } = await import('./url.js');
    return explainUrl({ address: what, headers: headersOf(options), config, isAsked: options.request });
  }
  const token = what === '-' ? (await text(process.stdin)).trim() : what;
  if (/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token) || what === '-') {
    const { explainToken } = await import('../../explain/token.js');
    return explainToken(token, channels, config);
  }
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
