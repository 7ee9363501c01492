/**
 * Tracing's settings: whether spans are made, and where they go. TRACING is the relay's own
 * variable, as whole clusters are given OpenTelemetry's; all else is said by these.
 *
 * Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
 * https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
import { OperatorError } from '../operator-error.js';

const PROTOCOLS = ['http/protobuf', 'http/json'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export interface TracingSettings {
  readonly protocol: Protocol;
  /** Where spans are sent, without user, password and query. */
  readonly endpoint: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_ENDPOINT = 'http://localhost:4318';

/**
 * @param tracing the value of TRACING
 * @returns undefined where no spans are made: TRACING is not `true`, or OTEL_SDK_DISABLED is, or
 * OTEL_TRACES_EXPORTER is `none`
 * @throws OperatorError `bad-environment`: all that is wrong, a line for each variable
 */
export function tracingSettings(tracing: boolean, env: Environment): TracingSettings | undefined {
  const exporter = env['OTEL_TRACES_EXPORTER']?.trim() || 'otlp';
  if (!tracing || env['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true' || exporter === 'none') return undefined;
  const problems: string[] = [];
  const refuse = (name: string, expected: string, value = JSON.stringify(env[name])) =>
    problems.push(`  ${name}=${value}: expected ${expected}`);

  if (exporter !== 'otlp') refuse('OTEL_TRACES_EXPORTER', 'otlp or none');
  const protocolName = firstSet(env, 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL');
  const protocol = protocolName ? PROTOCOLS.find((name) => name === env[protocolName]?.trim()) : PROTOCOLS[0];
  if (protocolName && !protocol) {
    refuse(protocolName, `${PROTOCOLS.join(' or ')}; collectors take both on one port, 4318 by default`);
  }
  const endpointName = firstSet(env, 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT');
  const endpoint = addressOf(endpointName ? env[endpointName] : DEFAULT_ENDPOINT);
  if (endpointName && !endpoint) {
    // It may have a password in it.
    refuse(endpointName, `the address of a collector, as in ${DEFAULT_ENDPOINT}`, '(not shown)');
  }
  if (problems.length > 0 || !protocol || !endpoint) {
    throw new OperatorError('bad-environment', `TRACING is on, and these are not valid:\n${problems.join('\n')}`);
  }
  const path = endpointName === 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT' ? '' : 'v1/traces';
  return { protocol, endpoint: `${endpoint.origin}${endpoint.pathname.replace(/\/*$/, path && '/')}${path}` };
}

/** The specification takes a variable that is empty for one that is not set. */
function firstSet(env: Environment, ...names: readonly string[]): string | undefined {
  return names.find((name) => env[name]?.trim());
}

function addressOf(text = ''): URL | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  return ['http:', 'https:'].includes(url.protocol) ? url : undefined;
}
