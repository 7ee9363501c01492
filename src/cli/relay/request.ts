/**
 * One request to a relay, and what its failures mean to whoever asked.
 */
import { OperatorError } from '../../operator-error.js';
import { oneLine } from '../terminal/terminal-text.js';

/** What of a refusal is read. */
const MAX_BODY_BYTES = 64 * 1024;

/** Statuses that a proxy answers with while its relay is away, and a relay that is too busy. */
const TEMPORARY = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface RelayRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/**
 * Asks, and follows no redirect: with it a token would go elsewhere.
 *
 * @throws OperatorError `relay-unreachable` where it may work later, `relay-refused` where it will
 * not; and the reason of the signal
 */
export async function askRelay(url: URL, { headers = {}, signal }: RelayRequest): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { headers, signal, redirect: 'manual' });
  } catch (error) {
    signal.throwIfAborted();
    throw new OperatorError('relay-unreachable', `No relay answers at ${url.origin}: ${reasonOf(error)}.`, {
      cause: error,
    });
  }
  if (response.status === 200) return response;
  const { status } = response;
  const said = await textOf(response).catch(() => '');
  const code = TEMPORARY.has(status) ? 'relay-unreachable' : 'relay-refused';
  if (status >= 300 && status < 400) {
    const to = oneLine(response.headers.get('Location') ?? 'elsewhere').slice(0, 300);
    throw new OperatorError(code, `${url.origin} is no relay's address: it leads to ${to}`);
  }
  throw new OperatorError(code, `${url.origin} refused (${status}): ${refusalText(said)}`);
}

export interface RelayReadiness {
  readonly ready: boolean;
  /** Codes, as in `not_listening`. */
  readonly reasons: readonly string[];
}

/**
 * What /readyz says; undefined where it says nothing that can be understood.
 *
 * @throws OperatorError `relay-unreachable` where nobody answers; and the reason of the signal
 */
export async function askReadiness(url: string, signal: AbortSignal): Promise<RelayReadiness | undefined> {
  let response: Response;
  try {
    response = await fetch(`${url}/readyz`, { signal, redirect: 'manual' });
  } catch (error) {
    signal.throwIfAborted();
    throw new OperatorError('relay-unreachable', `No relay answers at ${url}: ${reasonOf(error)}.`, { cause: error });
  }
  try {
    const { ready, reasons } = JSON.parse(await textOf(response)) as { ready?: unknown; reasons?: unknown };
    if (typeof ready !== 'boolean' || !Array.isArray(reasons)) return undefined;
    return { ready, reasons: reasons.map((reason) => oneLine(String((reason as { code?: unknown }).code))) };
  } catch {
    return undefined;
  }
}

/** What the connection failed for, as in `ECONNREFUSED`. */
export function reasonOf(error: unknown): string {
  const { cause, message } = error instanceof Error ? error : new Error(String(error));
  if (!(cause instanceof Error)) return oneLine(message);
  // Of several addresses that were tried.
  const { code } = cause as NodeJS.ErrnoException;
  return oneLine(cause.message || code || message);
}

/** The body of an answer, or as much of it as may be. */
export async function textOf(response: Response, most = MAX_BODY_BYTES): Promise<string> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > most) break;
  }
  return text;
}

function refusalText(body: string): string {
  try {
    const { error, message } = JSON.parse(body) as { error?: unknown; message?: unknown };
    if (typeof error === 'string' && typeof message === 'string') return oneLine(`${error}. ${message}`).slice(0, 2000);
  } catch {
    // Not a relay's.
  }
  return oneLine(body.trim().replace(/\s+/g, ' ')).slice(0, 200) || 'it does not say why';
}
