/**
 * What the console's server answers, and how the page asks it. A token that was pasted is kept
 * here, in memory alone.
 *
 * All addresses are relative to this module, so that they hold behind a proxy that adds a path.
 */

export interface Session {
  readonly viewer: {
    readonly kind: 'password' | 'token' | 'open';
    readonly subject: string | null;
    readonly channels: readonly string[];
  };
  readonly shows: { readonly data: boolean; readonly addresses: boolean };
  readonly version: string;
  readonly heartbeatSeconds: number;
  readonly workers: number;
}

/** In which ways one can sign in. */
export interface SignIn {
  readonly password: boolean;
  readonly token: boolean;
}

export interface Rates {
  readonly events: number;
  readonly deliveries: number;
  readonly bytes: number;
  readonly refusals: number;
}

export interface Overview {
  readonly at: string;
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  readonly reasons: readonly Reason[];
  readonly head: { readonly id: string };
  readonly connections: {
    readonly total: number;
    readonly live: number;
    readonly catchingUp: number;
    readonly stalled: number;
  };
  /** A second, since the figures before; null where there were none. */
  readonly rates: Rates | null;
  /** Since the start. */
  readonly totals: Rates;
  readonly latencyMs: { readonly p50: number; readonly p99: number } | null;
  readonly memory: {
    readonly heapBytes: number;
    readonly rssBytes: number;
    readonly windowBytes: number;
    readonly replayBytes: number;
  };
  readonly database: { readonly connected: boolean; readonly trouble: string | null };
  readonly eventLoopDelayMs: number | null;
  /** Processes that have answered, and those that have not in time. */
  readonly workers?: { readonly answered: number; readonly missing: number };
}

/** What keeps the relay from delivering. */
export interface Reason {
  readonly code: string;
  readonly message?: string;
  readonly since?: string;
  readonly todo?: string;
}

export type ConnectionState = 'live' | 'catching-up' | 'stalled';

export interface Connection {
  readonly id: string;
  readonly address: string;
  readonly subject: string | null;
  readonly channels: readonly string[];
  readonly moreChannels?: number;
  readonly state: ConnectionState;
  readonly cursor: string | null;
  readonly lagEvents: number | null;
  readonly ageSeconds: number;
  readonly waitingBytes: number;
  readonly format: string;
  readonly compressed: boolean;
  readonly events: number;
}

export interface Connections {
  readonly at: string;
  readonly total: number;
  readonly shown: number;
  readonly connections: readonly Connection[];
}

export interface Channels {
  readonly at: string;
  readonly total: number;
  readonly channels: readonly { readonly channel: string; readonly connections: number; readonly lagging: number }[];
}

export interface Refusal {
  /** Which it is, for ever: its count may grow. */
  readonly n: number;
  readonly at: string;
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly cause: string;
  readonly cure: string;
  readonly method: string;
  readonly path: string;
  readonly address: string;
  readonly origin: string | null;
  readonly count: number;
}

export interface LogEvent {
  readonly id: string;
  readonly channel: string;
  readonly event: string;
  readonly createdAt: string;
  readonly bytes: number;
  /** JSON text. */
  readonly data: string | null;
  readonly truncated?: boolean;
  /** Why the data is not shown, and how to be shown it. */
  readonly hidden: string | null;
}

export interface LogPage {
  readonly events: readonly LogEvent[];
  readonly before: string | null;
  readonly after: string | null;
  /** `all`, or `until ID`: where a search without an index gave up. */
  readonly scanned: string;
}

export interface EventLife extends LogEvent {
  readonly writtenAt?: string | null;
  readonly committedAt: string | null;
  readonly placedAt: string | null;
  readonly position: string | null;
  readonly delivered: { readonly open: number; readonly passed: number; readonly behind: number } | null;
  readonly notes: readonly string[];
}

export interface TokenTrial {
  readonly verdict: string;
  readonly reasons: readonly { readonly ok: boolean; readonly text: string }[];
  readonly channels: readonly string[];
  readonly expiresAt: string | null;
  readonly console: boolean;
}

export type Severity = 'ok' | 'note' | 'warning' | 'error';

export interface Doctor {
  readonly at: string;
  readonly findings: readonly {
    readonly severity: Severity;
    readonly title: string;
    readonly consequence: string | null;
    readonly fix: string | null;
  }[];
}

/** A request that was not granted; `status` 0 where nobody answered. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly signIn?: SignIn,
  ) {
    super(message);
  }
}

const API = new URL('api/', import.meta.url);
export const EVENTS = new URL('../events', import.meta.url);

/** Time that the relay has to answer. Its queries are bounded by less. */
const ANSWERS_WITHIN_MS = 15_000;

let token: string | undefined;
let onUnauthorized: (error: ApiError) => void = () => undefined;

/** Uses the token from now on; undefined forgets it. */
export function setToken(value: string | undefined): void {
  token = value;
}

/**
 * Has `tell` called whenever an answer says that the right to the console is not there (any more).
 */
export function whenUnauthorized(tell: (error: ApiError) => void): void {
  onUnauthorized = tell;
}

export function authorization(value = token): Record<string, string> {
  return value === undefined ? {} : { Authorization: `Bearer ${value}` };
}

export const apiUrl = (path: string): URL => new URL(path, API);

/** What a refusal says of itself. */
export async function refusalOf(answer: Response): Promise<ApiError> {
  const body = (await answer.json().catch(() => ({}))) as Partial<
    Record<'error' | 'message', string> & { signIn: SignIn }
  >;
  const message = body.message ?? `The relay answered with status ${answer.status}.`;
  return new ApiError(answer.status, body.error ?? `http_${answer.status}`, message, body.signIn);
}

/** @throws ApiError */
export async function request<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
  const timeout = AbortSignal.timeout(ANSWERS_WITHIN_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  let answer: Response;
  try {
    answer = await fetch(apiUrl(path), {
      ...init,
      signal,
      cache: 'no-store',
      headers: { ...(init.body ? { 'Content-Type': 'application/json' } : {}), ...authorization() },
    });
  } catch {
    if (init.signal?.aborted) throw new ApiError(0, 'aborted', 'Not wanted any more.');
    throw timeout.aborted
      ? new ApiError(0, 'timeout', `The relay did not answer within ${ANSWERS_WITHIN_MS / 1000} s. Try again.`)
      : new ApiError(0, 'relay_away', 'The relay does not answer.');
  }
  if (!answer.ok) {
    const error = await refusalOf(answer);
    if (error.status === 401 && !path.startsWith('../session')) onUnauthorized(error);
    throw error;
  }
  return (answer.status === 204 ? undefined : await answer.json()) as Answer;
}

export const post = <Answer>(path: string, body: unknown): Promise<Answer> =>
  request(path, { method: 'POST', body: JSON.stringify(body) });
