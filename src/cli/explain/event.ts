/**
 * An event's life in words: how far it came, what holds it up, and who can get it.
 */
import { eventLife, type EventLife, type EventRow } from '../../admin/event-life.js';
import { commandLine } from '../../command-name.js';
import type { Config } from '../../config/config.js';
import { fateOf, readersOf } from '../../explain/event.js';
import { isOperatorError } from '../../operator-error.js';
import { askConnections, askDelivery, type RelayConnection } from '../relay/connections.js';
import { askReadiness, askRelay, textOf } from '../relay/request.js';
import { grouped } from '../terminal/numbers.js';
import { no, unknown, yes, type Explanation, type Step } from '../../explain/steps.js';

/** Time that a relay has to answer. */
const ANSWER_TIMEOUT_MS = 5000;

/** How many of those who are behind are named. */
const BEHIND_NAMED = 3;

export interface EventQuestion {
  readonly id: string;
  readonly databaseUrl: string;
  readonly config: Config;
  /** Of a relay; undefined: nobody knows where one is. */
  readonly url: string | undefined;
  /** Of its metrics; undefined: nobody knows where they are. */
  readonly metricsUrl: string | undefined;
  readonly tokenFor: (channel: string) => Promise<string | undefined>;
}

/** @throws what the database's connection throws; OperatorError `no-outbox` */
export async function explainEvent(question: EventQuestion): Promise<Explanation> {
  const { id, databaseUrl, config } = question;
  const subject = `event ${id}`;
  const life = await eventLife(databaseUrl, id);
  const { row } = life;
  const steps = fateOf(id, life);
  if (row === undefined || steps.some(({ verdict }) => verdict === 'no')) return { subject, steps };
  return {
    subject,
    steps: [
      ...steps,
      ...(await relays(question, row, life)),
      ...readersOf(row, config),
      await delivered(question, row),
    ],
  };
}

async function relays({ url, tokenFor }: EventQuestion, row: EventRow, life: EventLife): Promise<Step[]> {
  const { length } = life.relays;
  const where = life.relays.map(
    ({ address, process }) => `process ${process}${address === null ? '' : ` from ${address}`}`,
  );
  const seen =
    length > 0
      ? yes('relays', `${length} ${length === 1 ? 'listens' : 'listen'} to this database (${where.join(', ')})`)
      : unknown(
          'relays',
          'this role sees none that listens to this database',
          'run it as the role of the relay, or of pg_monitor',
        );
  if (url === undefined) return [seen];
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  try {
    const readiness = await askReadiness(url, signal);
    if (readiness?.ready === false) {
      return [
        seen,
        no(
          'ready',
          `the relay at ${url} is not: ${readiness.reasons.join(', ')}`,
          `${commandLine('doctor')}, with its settings`,
        ),
      ];
    }
    return [seen, await asked(url, row, await tokenFor(row.channel), signal)];
  } catch (error) {
    if (isOperatorError(error))
      return [seen, unknown('asked', error.message, 'name a relay by --url, or by HOST and PORT')];
    return [seen, unknown('asked', `the relay at ${url} does not answer within ${ANSWER_TIMEOUT_MS / 1000} s`)];
  }
}

/** Whether the relay has it: it is what follows the event before it. */
async function asked(url: string, row: EventRow, token: string | undefined, signal: AbortSignal): Promise<Step> {
  const address = new URL(`${url}/history`);
  address.searchParams.set('channel', row.channel);
  address.searchParams.set('after', row.before === '0' ? 'earliest' : row.before);
  address.searchParams.set('limit', '1');
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  let body: string;
  try {
    body = await textOf(await askRelay(address, { headers, signal }), Infinity);
  } catch (error) {
    if (!isOperatorError(error, 'relay-refused')) throw error;
    return unknown(
      'asked',
      `the relay at ${url} shows its channel to who may read it: ${error.message}`,
      'bring a token, by --token',
    );
  }
  const [found] = (JSON.parse(body) as { events?: { id?: string }[] }).events ?? [];
  if (found?.id === row.id) return yes('asked', `the relay at ${url} has it`);
  return no('asked', `the relay at ${url} does not have it`, 'see that its DATABASE_URL leads to this database');
}

/** Who has it of those that are connected now: nobody notes who had it and is gone. */
async function delivered({ metricsUrl }: EventQuestion, { id, channel }: EventRow): Promise<Step> {
  if (metricsUrl === undefined) {
    return unknown(
      'delivered',
      'no relay notes who got it; its cursor is what tells a client that it has it',
      'set METRICS_PORT, as the relay has it, to be told of the connections that are open now',
    );
  }
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  try {
    const delivery = await askDelivery(metricsUrl, id, signal);
    if (delivery === undefined) return unknown('delivered', `${metricsUrl} does not tell who has it`);
    const { open, passed, behind } = delivery;
    if (open === 0) return unknown('delivered', 'no connection that is open now gets it; nobody notes who did before');
    if (behind === 0) return yes('delivered', `to ${allOf(open)} now and ${open === 1 ? 'gets' : 'get'} it`);
    const crowd = await askConnections(metricsUrl, { limit: Math.min(behind, BEHIND_NAMED), channel }, signal);
    const named = crowd?.connections.map(behindText).join('; ') || 'they are gone by now';
    return unknown(
      'delivered',
      `to ${grouped(passed)} of the ${grouped(open)} connections that are open now and get it; ` +
        `${grouped(behind)} ${behind === 1 ? 'is' : 'are'} behind: ${named}${behind > BEHIND_NAMED ? '; …' : ''}`,
      `watch them come closer: ${commandLine('top')}`,
    );
  } catch (error) {
    if (isOperatorError(error))
      return unknown('delivered', error.message, 'see that METRICS_PORT is that of the relay');
    return unknown('delivered', `${metricsUrl} does not answer within ${ANSWER_TIMEOUT_MS / 1000} s`);
  }
}

const allOf = (open: number) =>
  open === 1 ? 'the one connection that is open' : `all ${grouped(open)} connections that are open`;

function behindText({ id, address, lagEvents, state }: RelayConnection): string {
  const lag = lagEvents === null ? 'looks for its place' : `${grouped(lagEvents)} behind the newest`;
  return `${id} from ${address || 'no address'}, ${state.replaceAll('-', ' ')}, ${lag}`;
}
