/** The view of one event: its life as far as it is known, who has got it, and its data. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import { request, type EventLife } from './api.js';
import { between, bytes, count, counted, milliseconds } from './format.js';
import { pretty } from './json-text.js';
import { want } from './live.js';
import { Ago, Empty, Failure, Loading, Moment, View, useLoaded } from './parts.js';
import { href, type Route } from './route.js';
import { Text, clip } from './visible.js';

/** So much of the data is set out at first. */
const FIRST_CHARACTERS = 20_000;

export function EventView({ route: { item = '' } }: { readonly route: Route }) {
  useEffect(() => want({ views: [] }), []);
  const { value, error, isLoading, reload } = useLoaded(item, (signal) =>
    request<EventLife>(`events/${encodeURIComponent(item)}`, { signal }),
  );
  return (
    <View
      title={`Event ${item}`}
      heading={
        <>
          Event <Text value={item} />
        </>
      }
      lead={
        value && (
          <>
            <Text value={value.event} /> on{' '}
            <a href={href('log', { channel: value.channel })}>
              <Text value={value.channel} />
            </a>
            , {bytes(value.bytes)}, <Ago at={value.createdAt} />.
          </>
        )
      }
      actions={
        <button type="button" onClick={reload} disabled={isLoading}>
          Look again
        </button>
      }
    >
      {!value && isLoading && <Loading what="the event" />}
      {error?.status === 404 && (
        <Empty title="There is no such event">
          <Text value={error.message} /> <a href="#/log">To the log</a>.
        </Empty>
      )}
      {error && error.status !== 404 && <Failure error={error} onRetry={reload} />}
      {value && error?.status !== 404 && (
        <div class="event">
          <Life life={value} />
          <Data key={value.id} life={value} />
        </div>
      )}
    </View>
  );
}

interface Step {
  readonly name: string;
  readonly at: string | null | undefined;
  readonly meaning: string;
  readonly unknown: string;
}

const stepsOf = (life: EventLife): readonly Step[] => [
  {
    name: 'Transaction began',
    at: life.createdAt,
    meaning: 'The default of created_at: when the transaction that wrote it began.',
    unknown: '',
  },
  ...(life.writtenAt === undefined || life.writtenAt === null
    ? []
    : [{ name: 'Inserted', at: life.writtenAt, meaning: 'The row was written.', unknown: '' }]),
  {
    name: 'Committed',
    at: life.committedAt,
    meaning: 'From here on others can see it.',
    unknown: 'When is not known: the server does not track it (track_commit_timestamp), or the row was changed since.',
  },
  {
    name: life.position === null ? 'Not placed yet' : `Placed at position ${life.position}`,
    at: life.placedAt,
    meaning: 'It has its place in the order that all clients get.',
    unknown: life.position === null ? 'Its transaction has not come to its end.' : 'When is not noted.',
  },
];

function Life({ life }: { readonly life: EventLife }) {
  const { delivered, notes } = life;
  let before: string | undefined;
  return (
    <section class="panel" aria-labelledby="life-title">
      <h2 id="life-title">Its life</h2>
      <ol class="timeline">
        {stepsOf(life).map(({ name, at, meaning, unknown }) => {
          const took = at && before ? between(before, at) : undefined;
          if (at) before = at;
          return (
            <li key={name} class={at ? 'is-done' : ''}>
              <p>
                <b>{name}</b>{' '}
                {at && (
                  <span class="when">
                    <Moment at={at} />
                    {took !== undefined && took >= 0 && `, ${milliseconds(took)} later`}
                  </span>
                )}
              </p>
              <p class="fine">{at ? meaning : unknown}</p>
            </li>
          );
        })}
        {delivered && (
          <li class={delivered.behind === 0 ? 'is-done' : ''}>
            <p>
              <b>
                {delivered.open === 0
                  ? 'Nobody is connected to its channel now'
                  : `Passed by ${count(delivered.passed)} of ${counted(delivered.open, 'stream')}`}
              </b>
            </p>
            <p class="fine">
              {delivered.behind > 0 ? (
                <>
                  {counted(delivered.behind, 'stream')} {delivered.behind === 1 ? 'is' : 'are'} still behind it.{' '}
                  <a href={href('connections', { channel: life.channel })}>See who</a>
                </>
              ) : (
                'Of the streams open now that may read it. Who was connected before nobody notes.'
              )}
            </p>
          </li>
        )}
      </ol>
      {notes.length > 0 && (
        <ul class="notes">
          {notes.map((note) => (
            <li key={note}>
              <Text value={note} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Data({ life: { data, hidden, bytes: size, truncated } }: { readonly life: EventLife }) {
  const [isWhole, setWhole] = useState(false);
  const [copied, setCopied] = useState('');
  const text = useMemo(() => (data === null ? '' : pretty(data)), [data]);
  const isLong = text.length > FIRST_CHARACTERS && !isWhole;
  if (data === null) {
    return (
      <section class="panel" aria-labelledby="data-title">
        <h2 id="data-title">Data</h2>
        <p class="hidden-data">
          <Text value={hidden ?? 'It is not shown.'} />
        </p>
      </section>
    );
  }
  const copy = () =>
    navigator.clipboard.writeText(data).then(
      () => setCopied('Copied.'),
      () => setCopied('The browser does not let this page copy.'),
    );
  return (
    <section class="panel" aria-labelledby="data-title">
      <header class="panel-head">
        <h2 id="data-title">Data</h2>
        <span class="fine" role="status">
          {copied}
        </span>
        <button type="button" class="quiet" onClick={() => void copy()}>
          Copy
        </button>
      </header>
      <pre tabIndex={0} aria-label="Data">
        <Text value={isLong ? clip(text, FIRST_CHARACTERS) : text} lines />
      </pre>
      {isLong && (
        <p class="more">
          <span class="fine">
            The first {count(FIRST_CHARACTERS)} of {count(text.length)} characters.
          </span>{' '}
          <button type="button" class="quiet" onClick={() => setWhole(true)}>
            Show all
          </button>
        </p>
      )}
      {truncated === true && <p class="fine">The relay shows the beginning of {bytes(size)}.</p>}
    </section>
  );
}
