/**
 * What `top` shows: figures as lines of text that fit a terminal of any size, the most important
 * ones first.
 */
import type { RelayConnections } from '../relay/connections.js';
import type { RelayReadiness } from '../relay/request.js';
import { bytes, grouped } from '../terminal/numbers.js';
import type { Colours } from '../terminal/colours.js';
import { crowdLines } from './crowd.js';
import type { Counted, Figures } from './figures.js';

export interface Shown {
  readonly url: string;
  /** Undefined: there was no answer yet. */
  readonly figures: Figures | undefined;
  /** Why there is no answer now; undefined: there is one. */
  readonly trouble: string | undefined;
  /** Since when, in seconds. */
  readonly troubleSeconds: number;
  /** What it says itself; undefined: nothing. */
  readonly readiness: RelayReadiness | undefined;
  /** Who is connected; undefined: the relay does not tell. */
  readonly crowd: RelayConnections | undefined;
}

/** Over figures that are not of now. */
const BEFORE = 'What it was before:';

/** Columns of a line's name. */
const NAME = 14;

/** @param rows most lines; @param columns most characters of each */
export function topLines(shown: Shown, colours: Colours, columns: number, rows: number): string[] {
  const { figures, crowd } = shown;
  const lines = [...headLines(shown), '', ...(figures ? figureLines(figures) : [])];
  if (crowd) lines.push(...crowdLines(crowd, Math.max(0, rows - lines.length)));
  return lines.slice(0, Math.max(1, rows)).map((line) => painted(line.slice(0, Math.max(1, columns)), colours));
}

function headLines({ url, figures, trouble, troubleSeconds, readiness }: Shown): string[] {
  if (trouble !== undefined) {
    return [
      `outbox-relay  ${url}`,
      `NO ANSWER for ${Math.round(troubleSeconds)} s, trying again`,
      `  ${trouble}`,
      '',
      BEFORE,
    ];
  }
  if (figures === undefined) return [`outbox-relay  ${url}`, 'asking …'];
  if (readiness === undefined) return [`outbox-relay  ${url}`];
  const because = readiness.reasons.length === 0 ? '' : `: ${readiness.reasons.join(', ')}`;
  return [`outbox-relay  ${url}`, `${readiness.ready ? 'ready' : 'NOT READY'}${because}`];
}

function figureLines(figures: Figures): string[] {
  const { connections, deliverySeconds: delivery } = figures;
  const all = Object.values(connections).reduce((sum, value) => sum + value, 0);
  const states = Object.entries(connections).map(([state, value]) => `${state.replaceAll('_', ' ')} ${grouped(value)}`);
  return [
    line('events', perSecond(figures.eventsPerSecond)),
    line('deliveries', `${perSecond(figures.deliveriesPerSecond)}  ${bytes(figures.bytesPerSecond)}/s`),
    line('delivered', delivery ? `p50 < ${time(delivery.p50)}  p99 < ${time(delivery.p99)}` : '-'),
    line('lag', `${time(figures.lagSeconds)}  ${grouped(figures.lagPositions)} positions`),
    ...(figures.heldSeconds ? [line('held', `a commit has held up delivery for ${time(figures.heldSeconds)}`)] : []),
    line('connections', `${grouped(all)}  ${states.join('  ')}`),
    line('opened', `${perSecond(figures.openedPerSecond)}  polls waiting ${grouped(figures.pollsWaiting)}`),
    line('refused', countedText(figures.refusals)),
    line('ended', countedText(figures.ended)),
    line('resets', countedText(figures.resets)),
    line('listening', `${yesNo(figures.listening)}  notifications arrive: ${yesNo(figures.notificationsArrive)}`),
    line('window', share(figures.windowBytes, figures.windowLimitBytes)),
    line('slow clients', share(figures.waitingBytes, figures.waitingLimitBytes)),
    line(
      'process',
      `cpu ${percent(figures.cpu)}  memory ${bytes(figures.memoryBytes)}  loop ${time(figures.eventLoopP99Seconds)}`,
    ),
  ];
}

const line = (name: string, text: string) => `${name.padEnd(NAME)}${text}`;

/** By cause, the most frequent first, with what came last. */
function countedText(counted: Counted): string {
  const entries = Object.entries(counted).sort(([, a], [, b]) => b.recent - a.recent || b.total - a.total);
  const text = entries.map(
    ([cause, { total, recent }]) => `${cause} ${grouped(total)}${recent > 0 ? ` (+${grouped(recent)})` : ''}`,
  );
  return text.join('  ') || 'none';
}

function painted(text: string, { bold, red, green, yellow, dim }: Colours): string {
  if (text.startsWith('outbox-relay')) return bold(text);
  if (/^(NO ANSWER|NOT READY)/.test(text)) return red(text);
  if (text.startsWith('ready')) return (text === 'ready' ? green : yellow)(text);
  if (text.startsWith('held')) return yellow(text);
  if (text.startsWith('  ')) return text;
  return dim(text.slice(0, NAME)) + text.slice(NAME);
}

const perSecond = (value: number | undefined) =>
  value === undefined ? '-/s' : `${value < 10 ? String(Math.round(value * 10) / 10) : grouped(value)}/s`;
const percent = (value: number | undefined) => (value === undefined ? '-' : `${Math.round(value * 100)} %`);
const yesNo = (value: boolean | undefined) => (value === undefined ? '-' : value ? 'yes' : 'NO');

function time(seconds: number | undefined): string {
  if (seconds === undefined) return '-';
  if (seconds === Infinity) return 'over 60 s';
  return seconds < 1 ? `${Math.round(seconds * 10_000) / 10} ms` : `${Math.round(seconds * 10) / 10} s`;
}

function share(value: number | undefined, limit: number | undefined): string {
  const part = value === undefined || !limit ? '' : `  ${percent(value / limit)}`;
  return `${bytes(value)} of ${bytes(limit)}${part}`;
}
