/** The view of the channels that somebody is connected to, as they were asked for. */
import { useEffect } from 'preact/hooks';
import { request, type Channels } from './api.js';
import { ChannelFilter } from './filter.js';
import { count, counted } from './format.js';
import { live, want } from './live.js';
import { Empty, Failure, Loading, Table, View, useLoaded, type Column, type Loaded } from './parts.js';
import { href, navigate, type Route } from './route.js';
import { useStore } from './store.js';
import { Text, visible } from './visible.js';

const ASK_EVERY_MS = 2000;

type Row = Channels['channels'][number];

/** A pattern has no events of its own. */
const isPattern = (channel: string): boolean => channel.endsWith('*');

const COLUMNS: readonly Column<Row>[] = [
  {
    name: 'Channel',
    isWide: true,
    cell: ({ channel }) => (
      <code>
        <Text value={channel} />
      </code>
    ),
  },
  { name: 'Connections', isNumber: true, cell: ({ connections }) => count(connections) },
  {
    name: 'Lagging',
    isNumber: true,
    cell: ({ lagging }) => (lagging > 0 ? <b class="is-odd">{count(lagging)}</b> : '0'),
  },
  {
    name: 'See',
    cell: ({ channel }) => (
      <span class="links">
        <a href={href('connections', { channel })} aria-label={`Connections of ${visible(channel)}`}>
          Connections
        </a>
        {!isPattern(channel) && (
          <a href={href('log', { channel })} aria-label={`Log of ${visible(channel)}`}>
            Log
          </a>
        )}
      </span>
    ),
  },
];

/** Those that begin so, again and again; the live stream has the most popular of all. */
function useChannels(prefix: string): Loaded<Channels | undefined> {
  const loaded = useLoaded(`channels ${prefix}`, (signal) =>
    prefix === ''
      ? Promise.resolve(undefined)
      : request<Channels>(`channels?${new URLSearchParams({ prefix })}`, { signal }),
  );
  useEffect(() => {
    if (prefix === '' || loaded.isLoading) return;
    const timer = setTimeout(loaded.reload, ASK_EVERY_MS);
    return () => clearTimeout(timer);
  }, [prefix, loaded.isLoading]);
  return loaded;
}

export function ChannelsView({ route: { query } }: { readonly route: Route }) {
  const prefix = query.get('prefix') ?? '';
  useEffect(() => want({ views: prefix === '' ? ['channels'] : [] }), [prefix]);
  const all = useStore(live, (state) => state.channels);
  const found = useChannels(prefix);
  const shown = prefix === '' ? all : found.value;
  return (
    <View
      title="Channels"
      lead={
        shown && (
          <>
            {counted(shown.total, 'channel')} with connections
            {shown.channels.length < shown.total && `, the ${count(shown.channels.length)} with most of them`}.
          </>
        )
      }
    >
      <div class="filters panel">
        <ChannelFilter
          label="Begins with"
          value={prefix}
          onChange={(value) => navigate('channels', { prefix: value })}
        />
      </div>
      {prefix !== '' && found.error && <Failure error={found.error} onRetry={found.reload} />}
      {!shown && !found.error && <Loading what="channels" />}
      {shown?.channels.length === 0 && (
        <Empty title={prefix === '' ? 'Nobody is connected' : 'No channel that somebody is connected to begins so'}>
          {prefix === '' ? (
            <>
              Channels show up here as soon as somebody asks for them. The <a href="#/log">log</a> has all events.
            </>
          ) : (
            <a href="#/channels">Show all</a>
          )}
        </Empty>
      )}
      {shown && shown.channels.length > 0 && (
        <div class="panel">
          <Table label="Channels" columns={COLUMNS} rows={shown.channels} keyOf={({ channel }) => channel} />
        </div>
      )}
    </View>
  );
}
