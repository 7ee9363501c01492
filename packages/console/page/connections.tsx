/** The view of who is connected: the slowest, the oldest, or who has most waiting, first. */
import { useEffect, useState } from 'preact/hooks';
import type { Connection, ConnectionState, Connections } from './api.js';
import { bytes, count, counted, duration } from './format.js';
import { ChannelFilter } from './filter.js';
import { live, want } from './live.js';
import { Ago, Empty, Loading, Table, View, type Column } from './parts.js';
import { href, navigate, type Route } from './route.js';
import { useStore } from './store.js';
import { Text } from './visible.js';

const SORTS = { lag: 'Furthest behind', age: 'Oldest', waiting: 'Most bytes waiting' } as const;

const STATES: Readonly<Record<ConnectionState, readonly [name: string, meaning: string]>> = {
  live: ['Live', 'It gets events as they come.'],
  'catching-up': ['Catching up', 'It gets what it has missed.'],
  stalled: ['Stalled', 'It does not take what it was given: the relay waits for its socket.'],
};

export function StateBadge({ state }: { readonly state: ConnectionState }) {
  const [name, meaning] = STATES[state];
  return (
    <span class={`badge state-${state}`} title={meaning}>
      {name}
    </span>
  );
}

const COLUMNS: readonly Column<Connection>[] = [
  { name: 'State', cell: ({ state }) => <StateBadge state={state} /> },
  {
    name: 'Client',
    cell: ({ address, subject }) => (
      <>
        <span class="whole">
          <Text value={address} />
        </span>
        {subject !== null && (
          <span class="sub">
            <Text value={subject} />
          </span>
        )}
      </>
    ),
  },
  {
    name: 'Channels',
    isWide: true,
    cell: ({ channels, moreChannels = 0 }) => (
      <span class="channels">
        {channels.map((channel) => (
          <code key={channel}>
            <Text value={channel} />
          </code>
        ))}
        {moreChannels > 0 && <span>and {count(moreChannels)} more</span>}
      </span>
    ),
  },
  { name: 'Behind', isNumber: true, cell: ({ lagEvents }) => (lagEvents === null ? '–' : count(lagEvents)) },
  { name: 'Cursor', isNumber: true, cell: ({ cursor }) => (cursor === null ? '–' : <Text value={cursor} />) },
  { name: 'Waiting', isNumber: true, cell: ({ waitingBytes }) => bytes(waitingBytes) },
  { name: 'Got', isNumber: true, cell: ({ events }) => count(events) },
  { name: 'Age', isNumber: true, cell: ({ ageSeconds }) => duration(ageSeconds) },
  { name: 'Format', cell: ({ format, compressed }) => `${format}${compressed ? ', compressed' : ''}` },
];

export function ConnectionsView({ route: { query } }: { readonly route: Route }) {
  const asked = query.get('sort') ?? '';
  const sort = Object.keys(SORTS).includes(asked) ? asked : 'lag';
  const channel = query.get('channel') ?? '';
  useEffect(() => want({ views: ['connections'], sort, channel }), [sort, channel]);
  const now = useStore(live, (state) => state.connections);
  const [held, setHeld] = useState<Connections | undefined>();
  const shown = held ?? now;
  const go = (change: { sort?: string; channel?: string }) => navigate('connections', { sort, channel, ...change });

  return (
    <View
      title="Connections"
      lead={
        shown && (
          <>
            {counted(shown.total, 'connection')}
            {channel !== '' && (
              <>
                {' '}
                on <Text value={channel} />
              </>
            )}
            {shown.connections.length < shown.total && `, the first ${count(shown.connections.length)} of them`}
            {held && (
              <>
                , as of <Ago at={held.at} />
              </>
            )}
            .
          </>
        )
      }
      actions={
        <button
          type="button"
          aria-pressed={held !== undefined}
          disabled={!now}
          onClick={() => setHeld(held ? undefined : now)}
        >
          {held ? 'Go on' : 'Hold still'}
        </button>
      }
    >
      <div class="filters panel">
        <label class="field">
          <span class="label">Order</span>
          <select value={sort} onChange={({ currentTarget }) => go({ sort: currentTarget.value })}>
            {Object.entries(SORTS).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <ChannelFilter value={channel} onChange={(value) => go({ channel: value })} />
      </div>
      {!shown && <Loading what="connections" />}
      {shown?.connections.length === 0 && channel === '' && (
        <Empty title="Nobody is connected">
          A browser that opens <code>/events?channel=…</code> shows up here. <a href="#/try">Try a stream</a>.
        </Empty>
      )}
      {shown?.connections.length === 0 && channel !== '' && (
        <Empty title="Nobody is connected to this channel">
          It is compared with channels as clients ask for them, <code>orders:*</code> included.{' '}
          <a href={href('connections', { sort })}>Show all</a>.
        </Empty>
      )}
      {shown && shown.connections.length > 0 && (
        <div class="panel">
          <Table label="Connections" columns={COLUMNS} rows={shown.connections} keyOf={({ id }) => id} />
        </div>
      )}
    </View>
  );
}
