/** The view of how the relay is, and how it was in the last minutes. */
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Overview, Reason } from './api.js';
import { Chart, type Series } from './chart.js';
import { bytes, count, counted, duration, milliseconds, rate, short } from './format.js';
import { live, want } from './live.js';
import { Ago, Loading, Moment, Table, View, type Column } from './parts.js';
import { StateShare } from './state-share.js';
import { useStore } from './store.js';
import { Text } from './visible.js';

const SECONDS = 120;
const TABLE_ROWS = 30;
/** With reduced motion a chart moves once in so many seconds. */
const CALM_SECONDS = 10;

function useSamples(): readonly Overview[] {
  const samples = useStore(live, (state) => state.samples);
  const [calm] = useState(() => matchMedia('(prefers-reduced-motion: reduce)').matches);
  const [shown, setShown] = useState(samples);
  useEffect(() => {
    if (!calm || shown.length === 0 || Math.floor((samples.at(-1)?.uptimeSeconds ?? 0) % CALM_SECONDS) === 0) {
      setShown(samples);
    }
  }, [samples]);
  return (calm ? shown : samples).slice(-SECONDS);
}

interface TileProps {
  readonly title: string;
  readonly value: ComponentChildren;
  readonly unit?: string | undefined;
  readonly note?: ComponentChildren;
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
}

function Tile({ title, value, unit, note, series, format }: TileProps) {
  return (
    <section class="panel tile" aria-label={title}>
      <h2>{title}</h2>
      <p class="figure">
        {value} {unit && <span class="unit">{unit}</span>}
      </p>
      <Chart label={`${title}, last ${SECONDS / 60} minutes`} series={series} capacity={SECONDS} format={format} />
      <div class="tile-note">{note}</div>
    </section>
  );
}

function Readiness({ overview }: { readonly overview: Overview }) {
  const { ready, reasons, database } = overview;
  if (ready && reasons.length === 0 && database.connected) {
    return (
      <div class="notice is-good">
        <p>
          <strong>Ready.</strong> Every committed event is delivered as it comes.
        </p>
      </div>
    );
  }
  return (
    <div class={`notice ${ready ? 'is-odd' : 'is-bad'}`}>
      <p>
        <strong>{ready ? 'Ready, but' : 'Not ready.'}</strong>{' '}
        {reasons.length === 0 && <Text value={database.trouble ?? 'The relay has not caught up yet.'} />}
      </p>
      {reasons.length > 0 && (
        <ul>
          {reasons.map((reason) => (
            <ReasonItem key={reason.code} reason={reason} />
          ))}
        </ul>
      )}
      <p>
        <a href="#/doctor">Have the doctor look</a>
      </p>
    </div>
  );
}

function ReasonItem({ reason: { code, message, since, todo } }: { readonly reason: Reason }) {
  return (
    <li>
      <code>{code}</code> {message !== undefined && <Text value={message} />}
      {since !== undefined && (
        <>
          {' '}
          Since <Moment at={since} />.
        </>
      )}{' '}
      {todo !== undefined && <Text value={todo} />}
    </li>
  );
}

const rateOf = (value: number | undefined): string => (value === undefined ? '–' : rate(value));

const COLUMNS: readonly Column<Overview>[] = [
  { name: 'Time', cell: ({ at }) => <Moment at={at} /> },
  { name: 'Events/s', isNumber: true, cell: ({ rates }) => rateOf(rates?.events) },
  { name: 'Deliveries/s', isNumber: true, cell: ({ rates }) => rateOf(rates?.deliveries) },
  { name: 'Refusals/s', isNumber: true, cell: ({ rates }) => rateOf(rates?.refusals) },
  { name: 'Connections', isNumber: true, cell: ({ connections }) => count(connections.total) },
  { name: 'Latency p50', isNumber: true, cell: ({ latencyMs }) => (latencyMs ? milliseconds(latencyMs.p50) : '–') },
  { name: 'Latency p99', isNumber: true, cell: ({ latencyMs }) => (latencyMs ? milliseconds(latencyMs.p99) : '–') },
  { name: 'Memory', isNumber: true, cell: ({ memory }) => bytes(memory.rssBytes) },
];

export function OverviewView() {
  useEffect(() => want({ views: [] }), []);
  const samples = useSamples();
  const overview = useStore(live, (state) => state.overview);
  const last = samples.at(-1);
  if (!overview || !last) {
    return (
      <View title="Overview">
        <Loading what="the figures" />
      </View>
    );
  }
  const of = (name: string, pick: (sample: Overview) => number | null): Series => ({ name, values: samples.map(pick) });
  const latency = samples.findLast(({ latencyMs }) => latencyMs)?.latencyMs;
  const { memory, totals, connections, rates } = last;
  return (
    <View
      title="Overview"
      lead={
        <>
          Up for {duration(overview.uptimeSeconds)}.{' '}
          {overview.head.id === '0' ? (
            'No event yet.'
          ) : (
            <>
              Newest event <a href={`#/events/${overview.head.id}`}>{overview.head.id}</a>.
            </>
          )}
        </>
      }
    >
      <Readiness overview={overview} />
      <div class="tiles">
        <Tile
          title="Events"
          value={rateOf(rates?.events)}
          unit="a second"
          note={`${counted(totals.events, 'event')} since the start`}
          series={[of('events a second', (sample) => sample.rates?.events ?? null)]}
          format={short}
        />
        <Tile
          title="Deliveries"
          value={rateOf(rates?.deliveries)}
          unit="a second"
          note={`${rates ? `${bytes(rates.bytes)}/s; ` : ''}${counted(totals.deliveries, 'delivery', 'deliveries')} since the start`}
          series={[of('deliveries a second', (sample) => sample.rates?.deliveries ?? null)]}
          format={short}
        />
        <Tile
          title="Connections"
          value={count(connections.total)}
          note={<StateShare connections={connections} />}
          series={[of('connections', (sample) => sample.connections.total)]}
          format={short}
        />
        <Tile
          title="Refusals"
          value={rateOf(rates?.refusals)}
          unit="a second"
          note={<a href="#/refusals">{counted(totals.refusals, 'refusal')} since the start</a>}
          series={[of('refusals a second', (sample) => sample.rates?.refusals ?? null)]}
          format={short}
        />
        <Tile
          title="Latency"
          value={latency ? milliseconds(latency.p50) : '–'}
          unit={latency ? 'at the median' : undefined}
          note={
            <ul class="legend">
              <li class="key-0">
                p50 <b>{latency ? milliseconds(latency.p50) : 'nothing delivered yet'}</b>
              </li>
              {latency && (
                <li class="key-1">
                  p99 <b>{milliseconds(latency.p99)}</b>
                </li>
              )}
            </ul>
          }
          series={[
            of('p50', ({ latencyMs }) => latencyMs?.p50 ?? null),
            of('p99', ({ latencyMs }) => latencyMs?.p99 ?? null),
          ]}
          format={milliseconds}
        />
        <Tile
          title="Memory"
          value={bytes(memory.rssBytes)}
          note={
            <ul class="legend">
              <li class="key-0">
                All <b>{bytes(memory.rssBytes)}</b>
              </li>
              <li class="key-1">
                Heap <b>{bytes(memory.heapBytes)}</b>
              </li>
              <li>
                Window <b>{bytes(memory.windowBytes)}</b>
              </li>
              <li>
                Replays <b>{bytes(memory.replayBytes)}</b>
              </li>
            </ul>
          }
          series={[of('all', (sample) => sample.memory.rssBytes), of('heap', (sample) => sample.memory.heapBytes)]}
          format={bytes}
        />
      </div>
      <details class="panel details">
        <summary>The same as a table</summary>
        <div class="scroll" role="region" aria-label="Figures as a table" tabIndex={0}>
          <Table
            label={`The last ${TABLE_ROWS} seconds`}
            columns={COLUMNS}
            rows={samples.slice(-TABLE_ROWS).reverse()}
            keyOf={({ at }) => at}
          />
        </div>
      </details>
      <p class="fine">
        Figures of <Ago at={overview.at} />.
        {overview.workers !== undefined &&
          overview.workers.missing > 0 &&
          ` ${counted(overview.workers.missing, 'worker')} did not answer in time: what is told of them is older.`}
        {overview.eventLoopDelayMs !== null && ` The event loop lags by ${milliseconds(overview.eventLoopDelayMs)}.`}
      </p>
    </View>
  );
}
