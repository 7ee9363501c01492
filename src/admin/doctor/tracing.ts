/**
 * Checks of tracing, where it is on: whether its settings are valid, and whether a collector
 * answers.
 */
import { isOperatorError } from '../../operator-error.js';
import { tracingSettings } from '../../tracing/settings.js';
import { ok, type Finding, type Result } from './finding.js';

/** Time that a collector has to answer. */
const PATIENCE_MS = 5000;

const WHY = 'events are delivered as ever, and spans of them are lost';

/** What a relay finds in this environment with TRACING. */
export async function examineTracing(env: Readonly<Record<string, string | undefined>>): Promise<Result> {
  return { check: 'tracing', findings: [await findingOf(env)] };
}

async function findingOf(env: Readonly<Record<string, string | undefined>>): Promise<Finding> {
  try {
    const settings = tracingSettings(true, env);
    if (settings) return await ask(settings.endpoint);
    return ok('TRACING is on, and OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER turns it off');
  } catch (error) {
    if (!isOperatorError(error, 'bad-environment')) throw error;
    const fix = { advice: 'set them right, or leave them out for the defaults' };
    return { level: 'error', what: error.message, why: 'no relay starts with them', fix };
  }
}

/**
 * Sends what has no spans in it. What the collector asks for to let them in may be refused to us:
 * so any answer is one.
 */
async function ask(endpoint: string): Promise<Finding> {
  try {
    const { status } = await fetch(endpoint, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"resourceSpans":[]}',
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return ok(`spans go to ${endpoint}, which answers (${status})`);
  } catch {
    const fix = { advice: 'start the collector, or set OTEL_EXPORTER_OTLP_ENDPOINT to where it takes OTLP over HTTP' };
    return { level: 'warning', what: `no collector answers at ${endpoint}`, why: WHY, fix };
  }
}
