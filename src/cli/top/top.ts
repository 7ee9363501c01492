/**
 * `top`: a relay at work, drawn anew each second from its metrics; it goes on by itself when the
 * relay was away.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { readConfig, type Config } from '../../config/config.js';
import { METRICS_PATH } from '../../http/paths.js';
import { isOperatorError, OperatorError } from '../../operator-error.js';
import type { Span } from '../face/command-face.js';
import { interruption } from '../face/interruption.js';
import { metricsPortUrl, relayUrl } from '../relay/access.js';
import { askConnections, type RelayConnections } from '../relay/connections.js';
import { readMetrics } from '../relay/metrics-text.js';
import { askReadiness, askRelay, textOf, type RelayReadiness } from '../relay/request.js';
import { coloursFor } from '../terminal/colours.js';
import { openOutput } from '../terminal/output.js';
import { hasScreen, openScreen } from '../terminal/screen.js';
import { safeJson } from '../terminal/terminal-text.js';
import { MOST_SHOWN } from './crowd.js';
import { figuresOf, type Look } from './figures.js';
import { topLines, type Shown } from './view.js';

interface TopOptions {
  readonly url?: string;
  readonly interval: Span;
  readonly once?: true;
  readonly json?: true;
}

/** Time that a relay has to answer. */
const ANSWER_TIMEOUT_MS = 5000;
/** Most that metrics may take. */
const MAX_METRICS_CHARACTERS = 4 * 1024 * 1024;
/** Between the two looks that one set of figures takes. */
const ONCE_MS = 1100;

export async function runTop(options: TopOptions): Promise<void> {
  const config = readConfig(process.env);
  const url = metricsUrl(options.url, config);
  const readyUrl = options.url === undefined && config.port !== 0 ? relayUrl(undefined, config) : url;
  const isLive = hasScreen() && !options.once && !options.json;
  const output = openOutput();
  const ended = new AbortController();
  const signal = AbortSignal.any([interruption(), output.left, ended.signal]);
  // A relay that was never there is mistyped more often than restarted.
  let look = await lookAt(url, signal);
  let before: Look | undefined;
  let troubleSince: number | undefined;
  let trouble: string | undefined;
  let readiness: RelayReadiness | undefined;
  let crowd = await crowdAt(url, signal);
  const shown = (): Shown => ({
    url,
    figures: figuresOf(before, look),
    trouble,
    troubleSeconds: troubleSince === undefined ? 0 : (performance.now() - troubleSince) / 1000,
    readiness,
    crowd,
  });
  async function next(pauseMs: number): Promise<void> {
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      const now = await lookAt(url, signal);
      [readiness, crowd] = await Promise.all([readinessAt(readyUrl, signal), crowdAt(url, signal)]);
      before = trouble === undefined ? look : undefined;
      look = now;
      trouble = troubleSince = undefined;
    } catch (error) {
      if (isAborted(signal)) return;
      if (!isOperatorError(error)) throw error;
      trouble = error.message;
      troubleSince ??= performance.now();
    }
  }

  if (!isLive) {
    const colours = coloursFor(process.stdout);
    const isOnce = options.once || !options.json;
    for (;;) {
      await next(isOnce ? ONCE_MS : options.interval.seconds * 1000);
      if (isAborted(signal)) return;
      if (trouble !== undefined && isOnce) throw new OperatorError('relay-unreachable', trouble);
      const { figures } = shown();
      if (options.json)
        await output.print(
          `${safeJson({ url, readiness, trouble, ...(trouble === undefined && { ...figures, ...told(crowd) }) })}\n`,
        );
      else await output.print(`${topLines(shown(), colours, Infinity, Infinity).join('\n')}\n`);
      if (isOnce) return;
    }
  }

  const draw = () => void screen.draw(topLines(shown(), coloursFor(process.stdout), screen.columns, screen.rows));
  const screen = openScreen(output, () => ended.abort(), draw);
  try {
    while (!isAborted(signal)) {
      draw();
      await next(options.interval.seconds * 1000);
    }
  } finally {
    screen.close();
  }
}

/** A function, so that no earlier look at the signal is taken for this one. */
const isAborted = ({ aborted }: AbortSignal) => aborted;

/** @throws OperatorError `usage` */
function metricsUrl(given: string | undefined, config: Config): string {
  if (given !== undefined) return relayUrl(given.replace(/\/metrics\/?$/, ''), config);
  const own = metricsPortUrl(config);
  if (own !== undefined) return own;
  if (config.publicMetrics) return relayUrl(undefined, config);
  throw new OperatorError(
    'usage',
    'Where are the metrics? Set METRICS_PORT, as the relay has it, or name their address: --url http://127.0.0.1:9100\n' +
      'A relay that has neither METRICS_PORT nor PUBLIC_METRICS=true serves none.',
  );
}

/** @throws OperatorError */
async function lookAt(url: string, signal: AbortSignal): Promise<Look> {
  let text: string;
  let at: number;
  try {
    const response = await askRelay(new URL(url + METRICS_PATH), { signal: either(signal) });
    at = performance.now();
    text = await textOf(response, MAX_METRICS_CHARACTERS);
  } catch (error) {
    signal.throwIfAborted();
    if (isOperatorError(error)) throw error;
    const seconds = ANSWER_TIMEOUT_MS / 1000;
    throw new OperatorError('relay-unreachable', `No whole answer from ${url} within ${seconds} s.`, { cause: error });
  }
  const metrics = readMetrics(text);
  if (metrics.has('outbox_relay_connections')) return { at, metrics };
  throw new OperatorError('relay-refused', `${url}${METRICS_PATH} has no metrics of an outbox-relay.`);
}

/** What it says itself; undefined: nothing, as where only its metrics are reached. */
async function readinessAt(url: string, signal: AbortSignal): Promise<RelayReadiness | undefined> {
  return askReadiness(url, either(signal)).catch(() => undefined);
}

/** Who is connected; undefined: the relay does not tell. */
async function crowdAt(url: string, signal: AbortSignal): Promise<RelayConnections | undefined> {
  return askConnections(url, { limit: MOST_SHOWN }, either(signal)).catch(() => undefined);
}

/** The same, with the names of `top --json`. */
function told(crowd: RelayConnections | undefined) {
  return crowd && { channels: crowd.channels, channelsTotal: crowd.channelsTotal, slowest: crowd.connections };
}

const either = (signal: AbortSignal) => AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
