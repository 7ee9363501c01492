/** What all views are made of: the heading that takes the focus, tables, times, states. */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from './api.js';
import { absolute, ago, moment } from './format.js';
import { live } from './live.js';
import { createStore, useStore } from './store.js';

const clock = createStore({ now: Date.now() });
setInterval(() => {
  if (!document.hidden) clock.set({ now: Date.now() });
}, 1000);

/** The time, in milliseconds since 1970, every second. */
export const useNow = (): number => useStore(clock, ({ now }) => now);

interface ViewProps {
  readonly title: string;
  /** For the page's title, where the heading has more than text. */
  readonly heading?: ComponentChildren;
  readonly lead?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly children: ComponentChildren;
}

/** A view. Its heading gets the focus when one comes to it, but not when the page is loaded. */
export function View({ title, heading, lead, actions, children }: ViewProps) {
  // Before the view is shown: who is told of its heading is told of the page's title, too.
  useLayoutEffect(() => {
    document.title = `${title} · outbox-relay console`;
  }, [title]);
  return (
    <>
      <header class="view-head">
        <div>
          <h1 id="view-title" tabIndex={-1}>
            {heading ?? title}
          </h1>
          {lead && <p class="lead">{lead}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

/** How long ago, with the time itself as its title. */
export function Ago({ at }: { readonly at: string | number }) {
  const now = useNow();
  const time = typeof at === 'number' ? at : Date.parse(at);
  if (Number.isNaN(time)) return <>unknown</>;
  return (
    <time dateTime={new Date(time).toISOString()} title={absolute(time)}>
      {ago(time, Math.max(now, time))}
    </time>
  );
}

/** The time of day, with the date where it is another. */
export function Moment({ at }: { readonly at: string | number }) {
  const time = typeof at === 'number' ? at : Date.parse(at);
  if (Number.isNaN(time)) return <>unknown</>;
  return (
    <time dateTime={new Date(time).toISOString()} title={absolute(time)}>
      {moment(time)}
    </time>
  );
}

export interface Column<Row> {
  readonly name: string;
  readonly isNumber?: boolean;
  readonly isWide?: boolean;
  readonly cell: (row: Row) => ComponentChildren;
}

interface TableProps<Row> {
  readonly label: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string | number;
}

/**
 * A table; on a narrow screen each row is a card. The roles stay what they are however it is laid
 * out.
 */
export function Table<Row>({ label, columns, rows, keyOf }: TableProps<Row>) {
  const kind = ({ isNumber, isWide }: Column<Row>) =>
    [isNumber && 'number', isWide && 'wide'].filter(Boolean).join(' ');
  return (
    <table class="table" role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.name} role="columnheader" scope="col" class={kind(column)}>
              {column.name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={keyOf(row)} role="row">
            {columns.map((column) => (
              <td key={column.name} role="cell" data-label={column.name} class={kind(column)}>
                <div>{column.cell(row)}</div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Nothing is there, and what there could be. */
export function Empty({ title, children }: { readonly title: string; readonly children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <p>{children}</p>}
    </div>
  );
}

export function Loading({ what }: { readonly what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what}…
    </p>
  );
}

const TROUBLES: Readonly<Record<string, string>> = {
  relay_away: 'The relay does not answer',
  timeout: 'The relay takes too long',
  database_away: 'The database does not answer',
  not_found: 'Nothing is there',
};

interface FailureProps {
  readonly error: ApiError;
  readonly onRetry?: (() => void) | undefined;
}

/** What went wrong, and what to do. */
export function Failure({ error, onRetry }: FailureProps) {
  return (
    <div class="notice is-bad" role="alert">
      <p>
        <strong>{TROUBLES[error.code] ?? 'That did not work'}.</strong> {error.message}
      </p>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** After an answer that may be another next time. */
const ASK_AGAIN_MS = 4000;

export interface Loaded<Value> {
  readonly value: Value | undefined;
  readonly error: ApiError | undefined;
  readonly isLoading: boolean;
  reload(): void;
}

/**
 * Asks the relay, and again when `key` changes; what may pass is asked again after a while, and as
 * soon as the relay is back. What was there stays in sight until the answer comes.
 */
export function useLoaded<Value>(key: string, load: (signal: AbortSignal) => Promise<Value>): Loaded<Value> {
  const [state, setState] = useState<Omit<Loaded<Value>, 'reload'> & { readonly key: string }>({
    key,
    value: undefined,
    error: undefined,
    isLoading: true,
  });
  const [attempt, setAttempt] = useState(0);
  const isOpen = useStore(live, ({ link }) => link === 'open');
  const isDatabaseThere = useStore(live, ({ overview }) => overview?.database.connected ?? true);
  const failed = useRef(false);
  useEffect(() => {
    if (failed.current && isOpen && isDatabaseThere) setAttempt((n) => n + 1);
  }, [isOpen, isDatabaseThere]);
  useEffect(() => {
    const over = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    setState((before) => ({ ...before, value: before.key === key ? before.value : undefined, key, isLoading: true }));
    load(over.signal).then(
      (value) => {
        if (over.signal.aborted) return;
        failed.current = false;
        setState({ key, value, error: undefined, isLoading: false });
      },
      (cause: unknown) => {
        if (over.signal.aborted) return;
        const error = cause instanceof ApiError ? cause : new ApiError(0, 'unreadable', String(cause));
        failed.current = error.status === 0 || error.status >= 500;
        if (failed.current) timer = setTimeout(() => setAttempt((n) => n + 1), ASK_AGAIN_MS);
        setState((before) => ({ ...before, error, isLoading: false }));
      },
    );
    return () => {
      clearTimeout(timer);
      over.abort();
    };
  }, [key, attempt]);
  return { ...state, reload: () => setAttempt((n) => n + 1) };
}
