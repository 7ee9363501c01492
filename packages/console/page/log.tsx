/**
 * The view of the events in the table, newest first, by channel, name, id and time; it follows what
 * is new, if asked.
 */
import { useEffect, useState } from 'preact/hooks';
import type { LogEvent } from './api.js';
import { bytes, count, counted } from './format.js';
import { LogFilterForm } from './log-filter.js';
import { PAGE_EVENTS, useLogPages, type LogFilter } from './log-pages.js';
import { want } from './live.js';
import { Empty, Failure, Loading, Moment, Table, View, type Column } from './parts.js';
import { href, navigate, type Route } from './route.js';
import { Text, clip, visible } from './visible.js';

const PREVIEW = 160;

const COLUMNS: readonly Column<LogEvent>[] = [
  {
    name: 'Id',
    isNumber: true,
    cell: ({ id }) => (
      <a href={`#/events/${id}`} aria-label={`Event ${id}`}>
        {id}
      </a>
    ),
  },
  {
    name: 'Channel',
    cell: ({ channel }) => (
      <a href={href('log', { channel })} aria-label={`Log of ${visible(channel)}`}>
        <Text value={channel} />
      </a>
    ),
  },
  { name: 'Event', cell: ({ event }) => <Text value={event} /> },
  {
    name: 'Data',
    isWide: true,
    cell: ({ data, hidden }) =>
      data === null ? (
        <span class="hidden-data" title={hidden ?? undefined}>
          not shown
        </span>
      ) : (
        <code class="preview">
          <Text value={data.length > PREVIEW ? `${clip(data, PREVIEW)}…` : data} />
        </code>
      ),
  },
  { name: 'Size', isNumber: true, cell: ({ bytes: size }) => bytes(size) },
  { name: 'Written', cell: ({ createdAt }) => <Moment at={createdAt} /> },
];

const filterOf = (query: URLSearchParams): LogFilter => ({
  channel: query.get('channel') ?? '',
  event: query.get('event') ?? '',
  id: query.get('id') ?? '',
  since: query.get('since') ?? '',
  until: query.get('until') ?? '',
});

export function LogView({ route: { query } }: { readonly route: Route }) {
  useEffect(() => want({ views: [] }), []);
  const filter = filterOf(query);
  const before = query.get('before') ?? '';
  const isFiltered = Object.values(filter).some((value) => value !== '');
  const [wantsFollow, setFollow] = useState(false);
  const canFollow = before === '' && filter.id === '' && filter.until === '';
  const isFollowing = wantsFollow && canFollow;
  const pages = useLogPages(filter, before, isFollowing);
  const { events, value, error, isLoading } = pages;
  const hidden = [...new Set(events.flatMap((event) => event.hidden ?? []))].join(' ');
  const stopped = /^until (.+)$/.exec(value?.scanned ?? '')?.[1];
  const older = value?.before ?? null;

  return (
    <View
      title="Log"
      lead="Events as they stand in the table, the newest first."
      actions={
        <label class="switch" title={canFollow ? undefined : 'Only the newest events can be followed'}>
          <input
            type="checkbox"
            checked={isFollowing}
            disabled={!canFollow}
            onChange={({ currentTarget }) => setFollow(currentTarget.checked)}
          />
          Follow what is new
        </label>
      }
    >
      <LogFilterForm filter={filter} isFiltered={isFiltered} onChange={(next) => navigate('log', { ...next })} />
      {error && <Failure error={error} onRetry={pages.reload} />}
      {pages.followError && isFollowing && (
        <p class="notice is-odd" role="status">
          {pages.followError.message} It goes on from event {events[0]?.id ?? 'none'} by itself.
        </p>
      )}
      {hidden !== '' && (
        <p class="notice">
          The data of some events is not shown. <Text value={hidden} />
        </p>
      )}
      {!value && isLoading && <Loading what="events" />}
      {value && events.length === 0 && stopped === undefined && (
        <Empty title={isFiltered || before !== '' ? 'Nothing found' : 'The table is empty'}>
          {isFiltered || before !== '' ? (
            <a href="#/log">Show all events</a>
          ) : (
            <>
              Publish one: <code>INSERT INTO outbox (channel, data) VALUES ('orders', '"hello"')</code>
            </>
          )}
        </Empty>
      )}
      {events.length > 0 && (
        <div class={`panel ${isLoading ? 'is-stale' : ''}`} aria-busy={isLoading}>
          <Table label="Events" columns={COLUMNS} rows={events} keyOf={({ id }) => id} />
        </div>
      )}
      {stopped !== undefined && (
        <p class="notice is-odd">
          This search has no index: it looked as far back as event {stopped} in the time that it has, and found{' '}
          {events.length === 0 ? 'nothing' : counted(events.length, 'event')} so far. <b>Older</b> goes on from there; a
          channel or a time makes it quicker.
        </p>
      )}
      {value && (
        <nav class="pager" aria-label="Pages of the log">
          {before !== '' && <a href={href('log', { ...filter })}>Newest</a>}
          {older !== null && (
            <a rel="next" href={href('log', { ...filter, before: older })}>
              Older
            </a>
          )}
          <span class="fine">
            {older === null && events.length > 0 && 'That is all there is. '}
            {isFollowing && `Follows: ${count(pages.fresh)} new. `}
            {counted(events.length, 'event')}
            {events.length >= PAGE_EVENTS && ' on this page'}
          </span>
        </nav>
      )}
    </View>
  );
}
