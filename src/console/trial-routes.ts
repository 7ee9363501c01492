/** What the console tries and examines on request: a token, and all that a relay relies on. */
import { setTimeout as delay } from 'node:timers/promises';
import { examineAll } from '../admin/doctor/all.js';
import { fixText, type Level } from '../admin/doctor/finding.js';
import type { Access } from '../access/access.js';
import type { Config } from '../config/config.js';
import { namesOf } from '../event/channel-filter.js';
import { explainToken } from '../explain/token.js';
import { RequestError } from '../http/request-error.js';
import { kept } from '../metrics/kept.js';
import { databaseAway } from './database-away.js';
import { readJson } from './parameters.js';
import type { ConsoleRouter } from './routes.js';
import { sentence } from './sentence.js';

/** How long what the doctor found is good for. */
const DOCTOR_KEPT_MS = 10_000;
/** Time that a check under way has to end. */
const CLOSING_MS = 2000;
const MAX_BODY_BYTES = 64 * 1024;
const MOST_CHANNELS = 100;

const SEVERITIES: Readonly<Record<Level, string>> = { ok: 'ok', unchecked: 'note', warning: 'warning', error: 'error' };

export interface Trials {
  /** Resolves when nothing is examined any more, or would go on for long. */
  close(): Promise<void>;
}

export function routeTrials(router: ConsoleRouter, config: Config, { verify }: Pick<Access, 'verify'>): Trials {
  const closing = new AbortController();
  let examining: Promise<unknown> = Promise.resolve();

  router.post('token', async (context) => {
    const { token, channels = [] } = await readJson(context, MAX_BODY_BYTES);
    if (typeof token !== 'string' || !isNames(channels)) {
      throw new RequestError(
        400,
        'bad_json',
        `Send {"token": "…", "channels": ["…"]}, with at most ${MOST_CHANNELS} channels.`,
      );
    }
    const { steps, grant, refusal } = await explainToken(token.trim(), channels, config, verify);
    context.body = {
      verdict: grant ? 'good' : refusal === 'expired_token' ? 'expired' : 'bad',
      reasons: steps.map(({ step, verdict, what, todo }) => ({
        ok: verdict !== 'no',
        text: `${step}: ${what}${todo === undefined ? '' : `. What to do: ${todo}`}`,
      })),
      channels: grant ? namesOf(grant.channels) : [],
      expiresAt: grant && grant.expiresAt !== Infinity ? new Date(grant.expiresAt).toISOString() : null,
      console: grant?.opensConsole ?? false,
    };
  });

  const doctor = kept(() => {
    const found = findings(config, closing.signal);
    examining = found.catch(() => undefined);
    return found;
  }, DOCTOR_KEPT_MS);
  router.get('doctor', async (context) => {
    try {
      context.body = await doctor();
    } catch (error) {
      throw databaseAway(error);
    }
  });

  return {
    async close() {
      closing.abort();
      await Promise.race([examining, delay(CLOSING_MS, undefined, { ref: false })]);
    },
  };
}

const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.length <= MOST_CHANNELS && value.every((name) => typeof name === 'string');

async function findings(config: Config, signal: AbortSignal) {
  const { databaseUrl, archiveDatabaseUrl, listenDatabaseUrl, nats, tracing } = config;
  const url = (nats ? archiveDatabaseUrl : databaseUrl) ?? '';
  const listening = nats ? url : (listenDatabaseUrl ?? url);
  const examination = { databaseUrl: url, listenDatabaseUrl: listening, nats, tracing };
  const results = await examineAll(examination, process.env, signal);
  return {
    at: new Date().toISOString(),
    findings: results.flatMap(({ check, findings }) =>
      findings.map(({ level, what, why, fix }) => ({
        severity: SEVERITIES[level],
        title: `${check}: ${what}`,
        consequence: why === undefined ? null : sentence(why),
        fix: fix ? fixText(fix) : null,
      })),
    ),
  };
}
