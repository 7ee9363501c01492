/**
 * The view that opens a real stream, has it cut and resumed, and proves that nothing is lost,
 * doubled or out of order.
 */
import { useEffect, useState } from 'preact/hooks';
import { parseChannels, typed } from './form.js';
import { count, counted } from './format.js';
import { want } from './live.js';
import { Empty, Failure, Moment, View } from './parts.js';
import type { Route } from './route.js';
import { useStore } from './store.js';
import { startRun, type Arrival, type Run, type Trial } from './try-run.js';
import { Text } from './visible.js';

const NAMES: Readonly<Record<Trial['state'], string>> = {
  opening: 'Opening',
  live: 'Live',
  cut: 'Cut',
  resuming: 'Resuming',
  away: 'Broken off, comes back by itself',
  refused: 'Refused',
  ended: 'Ended',
};
const KINDS: Readonly<Record<Trial['state'], string>> = {
  opening: 'is-note',
  live: 'is-good',
  cut: 'is-note',
  resuming: 'is-odd',
  away: 'is-odd',
  refused: 'is-bad',
  ended: 'is-note',
};

export function TryView({ route: { query } }: { readonly route: Route }) {
  useEffect(() => want({ views: [] }), []);
  const [run, setRun] = useState<Run | undefined>();
  useEffect(() => () => run?.end(), [run]);
  function open(form: HTMLFormElement): void {
    const token = typed(form, 'token');
    run?.end();
    setRun(startRun(parseChannels(typed(form, 'channels')), token === '' ? undefined : token));
  }
  return (
    <View
      title="Try a stream"
      lead="Opens a stream as a browser would, twice. Cut one of the two, let it resume, and see that both bring the same."
    >
      <form
        class="filters panel"
        onSubmit={(event) => {
          event.preventDefault();
          open(event.currentTarget);
        }}
      >
        <label class="field">
          <span class="label">Channels</span>
          <input
            name="channels"
            required
            pattern=".*[^\s,].*"
            title="One or more, separated by spaces"
            defaultValue={query.get('channel') ?? ''}
            placeholder="orders user:*"
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
          />
        </label>
        <label class="field">
          <span class="label">
            Token <span class="hint">none: with what this page has</span>
          </span>
          <input name="token" type="password" autocomplete="off" spellcheck={false} />
        </label>
        <div class="buttons">
          <button type="submit" class={run ? '' : 'primary'}>
            {run ? 'Open anew' : 'Open'}
          </button>
        </div>
      </form>
      {run && <RunPanel run={run} />}
    </View>
  );
}

const whole = (trial: Trial): Trial => trial;

function RunPanel({ run }: { readonly run: Run }) {
  const trial = useStore(run.store, whole);
  const { state, error, cuts, received, replayed, cursor, arrivals, isRandom } = trial;
  const isOver = state === 'refused' || state === 'ended';
  return (
    <section class="panel trial" aria-label="The stream">
      <header class="panel-head">
        <span class={`badge ${KINDS[state]}`} data-state={state} role="status">
          {NAMES[state]}
        </span>
        <div class="buttons">
          {state === 'cut' ? (
            <button type="button" class="primary" disabled={isRandom} onClick={run.resume}>
              Resume
            </button>
          ) : (
            <button
              type="button"
              class="primary"
              disabled={isOver || isRandom || state === 'opening'}
              onClick={run.cut}
            >
              Cut
            </button>
          )}
          <label class="switch">
            <input
              type="checkbox"
              checked={isRandom}
              disabled={isOver}
              onChange={({ currentTarget }) => run.setRandom(currentTarget.checked)}
            />
            Cut at random
          </label>
          <button type="button" disabled={isOver} onClick={run.end}>
            End
          </button>
        </div>
      </header>
      {state === 'refused' && error && <Failure error={error} />}
      <dl class="figures">
        <Figure name="Received" value={count(received)} />
        <Figure name="Of these replayed" value={count(replayed)} />
        <Figure name="Cuts" value={count(cuts)} />
        <Figure name="Cursor" value={cursor ?? '–'} />
      </dl>
      {state !== 'refused' && <Proof trial={trial} />}
      {arrivals.length === 0 && !isOver && (
        <Empty title="No event yet">What is published on these channels from now on comes here.</Empty>
      )}
      {arrivals.length > 0 && <Arrivals arrivals={arrivals} />}
    </section>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The verdict, in words that say what it is about. */
function Proof({ trial: { state, tally, resets, twinBreaks } }: { readonly trial: Trial }) {
  const { agreed, owed, lost, doubled, disordered, isOverrun } = tally;
  const wrong = lost + doubled + disordered;
  const [kind, text] =
    wrong > 0
      ? ['is-bad', `${count(lost)} lost, ${count(doubled)} doubled, ${count(disordered)} out of order.`]
      : isOverrun
        ? ['is-odd', 'The twin is too far ahead for the page to keep count. Open it anew.']
        : owed > 0
          ? [
              'is-odd',
              state === 'cut' || state === 'away'
                ? `${counted(owed, 'event')} missed so far, to come when it is back. ${counted(agreed, 'event')} as in the twin.`
                : `${counted(owed, 'event')} on the way. ${counted(agreed, 'event')} as in the twin.`,
            ]
          : agreed > 0
            ? ['is-good', `Nothing lost, doubled or out of order: ${counted(agreed, 'event')} as in the twin.`]
            : ['', 'The twin has brought nothing yet either.'];
  return (
    <div class={`notice proof ${kind}`} data-verdict={kind}>
      <p>{text}</p>
      {resets > 0 && (
        <p class="fine">The relay could not honour a cursor and said so; the comparison began anew at that reset.</p>
      )}
      {twinBreaks > 0 && (
        <p class="fine">The twin was broken off, too, {counted(twinBreaks, 'time')}, and came back.</p>
      )}
    </div>
  );
}

function Arrivals({ arrivals }: { readonly arrivals: readonly Arrival[] }) {
  return (
    <ol class="arrivals" aria-label="Events, the newest first" tabIndex={0}>
      {arrivals.map(({ key, id, event, data, at, isReplayed, isRight }) => (
        <li key={key} class={isRight ? '' : 'is-wrong'} data-id={id}>
          <a href={`#/events/${id}`}>{id}</a>
          <span>
            <Text value={event} />
          </span>
          <code class="preview">
            <Text value={data} />
          </code>
          {isReplayed && <span class="badge is-odd">replayed</span>}
          {!isRight && <span class="badge is-bad">not as in the twin</span>}
          <span class="when">
            <Moment at={at} />
          </span>
        </li>
      ))}
    </ol>
  );
}
