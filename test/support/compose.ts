/**
 * docker-compose.yml as Compose reads it: values from an environment, and the services of the profiles that are chosen.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from './docs.js';

/** What of a service the tests look at. */
export interface ComposeService {
  readonly image: string;
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number | null>>;
  readonly depends_on?: Readonly<Record<string, { readonly required?: boolean }>>;
  readonly ports?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly ulimits?: { readonly nofile: number };
  readonly healthcheck?: object;
}

export type Environment = Readonly<Record<string, string>>;

/** The lines `NAME=value` of a file, by its path from the root of the repository. */
export function readEnvFile(path: string): Environment {
  const lines = readFileSync(join(ROOT, path), 'utf8').matchAll(/^([A-Z_]+)=(.*)$/gm);
  return Object.fromEntries([...lines].map(([, name = '', value = '']) => [name, value]));
}

/**
 * The services that `docker compose up` starts with that environment, of which COMPOSE_PROFILES names the profiles.
 *
 * @throws Error as Compose does: a variable without a value that has to have one, or a service that needs one that is not there
 */
export function readCompose(env: Environment): ReadonlyMap<string, ComposeService> {
  const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8').replaceAll(/^\s*#.*$/gm, '');
  const filled = text.replaceAll(
    /\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}/g,
    (whole: string, name?: string, kind?: string, rest?: string) => {
      if (name === undefined) return whole;
      const value = env[name] ?? '';
      if (value === '' && kind === '?') throw new Error(`required variable ${name} is missing a value: ${rest ?? ''}`);
      return value === '' ? (rest ?? '') : value;
    },
  );
  const { services } = parse(filled, { merge: true }) as { services: Readonly<Record<string, ComposeService>> };
  const chosen = (env['COMPOSE_PROFILES'] ?? '').split(',');
  const started = new Map(
    Object.entries(services).filter(([, { profiles }]) => profiles?.some((name) => chosen.includes(name)) ?? true),
  );
  for (const [name, { depends_on: needs = {} }] of started) {
    for (const [other, { required = true }] of Object.entries(needs)) {
      if (required && !started.has(other)) throw new Error(`service ${name} depends on undefined service ${other}`);
    }
  }
  return started;
}

/** What a service's processes find in their environment; a variable without a value is that of Compose, if it has one. */
export function environmentOf({ environment = {} }: ComposeService, env: Environment): Environment {
  const pairs = Object.entries(environment).map(([name, value]) => [name, value ?? env[name]] as const);
  return Object.fromEntries(pairs.flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])));
}
