/**
 * What is for deployments, against the relay that it deploys: docker-compose.yml, the Dockerfiles and examples/deploy/.
 * Others' validators have a step of their own, .ci/deploy.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml, parseAllDocuments } from 'yaml';
import { readConfig, VARIABLES } from '../src/config/config.js';
import { environmentOf, readCompose, readEnvFile, type Environment } from './support/compose.js';
import { readPage, ROOT } from './support/docs.js';

const FOLDER = 'examples/deploy';
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const { version } = JSON.parse(read('package.json')) as { version: string };

const defaults = readConfig({ DATABASE_URL: 'postgres://localhost/app', PUBLIC_CHANNELS: '*' });
/** SHUTDOWN_SECONDS, and the time after it at which the process ends, whatever has not. */
const STOP_SECONDS = defaults.shutdownSeconds + 5;

/** What nats.conf and users.conf take from the environment. */
function variablesOfNats(): string[] {
  const text = ['nats.conf', 'users.conf'].map((name) => read(`${FOLDER}/nats/${name}`).replaceAll(/^ *#.*$/gm, ''));
  return [...new Set([...text.join('\n').matchAll(/: \$(NATS_\w+)$/gm)].map(([, name = '']) => name))].sort();
}

/** Variables of others: what a recipe sets for a platform, a project or a program. */
const OF_OTHERS = ['SECRET_KEY', 'WEB_COMMAND', 'PYTHONUNBUFFERED', 'PYTHONDONTWRITEBYTECODE'];

/** What every recipe leaves to the user. */
const SECRETS = { DATABASE_URL: 'postgres://outbox_relay:secret@db:5432/app', JWT_SECRET: 'x'.repeat(32) };

/** A recipe for a relay, whatever its platform calls it. */
interface Recipe {
  readonly path: string;
  readonly environment: Environment;
  /** Ports on which the platform looks for the relay. Heroku gives it one. */
  readonly ports: readonly number[];
  readonly paths: readonly string[];
  /** From SIGTERM to SIGKILL. */
  readonly stopSeconds: number;
  readonly command: string;
}

interface FlyApp {
  readonly env: Environment;
  readonly kill_signal: string;
  readonly kill_timeout: string;
  readonly processes?: Environment;
  readonly http_service: { readonly internal_port: number; readonly checks: readonly { readonly path: string }[] };
}

interface RenderService {
  readonly name: string;
  readonly startCommand?: string;
  readonly healthCheckPath: string;
  readonly maxShutdownDelaySeconds: number;
  readonly envVars: readonly { readonly key?: string; readonly value?: string | number }[];
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

interface Container {
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly lifecycle: { readonly preStop: { readonly exec: { readonly command: readonly string[] } } };
  readonly securityContext: object;
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly selector: { readonly matchLabels?: object };
    readonly podSelector?: { readonly matchLabels: object };
    readonly rules: readonly { readonly http: { readonly paths: readonly { readonly path: string }[] } }[];
    readonly template: {
      readonly metadata: { readonly labels: object };
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext: object;
        readonly containers: readonly [Container];
      };
    };
  };
}

function fly(path: string): Recipe {
  const app = parseToml(read(path)) as unknown as FlyApp;
  const { env, kill_timeout: timeout, processes, http_service: service } = app;
  return {
    path,
    environment: env,
    ports: [service.internal_port],
    paths: service.checks.map((check) => check.path),
    stopSeconds: app.kill_signal === 'SIGTERM' ? Number.parseInt(timeout) : 0,
    command: processes?.['relay'] ?? '',
  };
}

function render(path: string): Recipe {
  const { services } = parseYaml(read(path)) as { services: readonly RenderService[] };
  const relay = services.find(({ name }) => name === 'shop-relay');
  if (relay === undefined) throw new Error(`${path} has no shop-relay`);
  const environment = Object.fromEntries(
    relay.envVars.flatMap(({ key = '', value }) => (value === undefined ? [] : [[key, String(value)]])),
  );
  return {
    path,
    environment,
    ports: [Number(environment['PORT'])],
    paths: [relay.healthCheckPath],
    stopSeconds: relay.maxShutdownDelaySeconds,
    command: relay.startCommand ?? '',
  };
}

function heroku(folder: string): Recipe {
  const path = `${folder}/app.json`;
  const { env } = JSON.parse(read(path)) as { env: Readonly<Record<string, { value?: string }>> };
  const environment = Object.fromEntries(
    Object.entries(env).flatMap(([name, { value }]) => (value === undefined ? [] : [[name, value]])),
  );
  const [, web = ''] = /^web: (.+)$/m.exec(read(`${folder}/Procfile`)) ?? [];
  const command = web.replace(/\$\{(\w+):-[^}]*\}/, (_, name: string) => environment[name] ?? '');
  return { path, environment, ports: [], paths: [], stopSeconds: 30, command };
}

function manifests(path: string): Manifest[] {
  return parseAllDocuments(read(path)).map((document) => document.toJS() as Manifest);
}

function kubernetes(path: string, named?: string): Recipe {
  const deployment = manifests(path).find(
    ({ kind, metadata }) => kind === 'Deployment' && (named === undefined || metadata.name === named),
  );
  if (deployment === undefined) throw new Error(`${path} has no Deployment`);
  const { terminationGracePeriodSeconds, containers } = deployment.spec.template.spec;
  const [container] = containers;
  const environment = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  const [program, seconds] = container.lifecycle.preStop.exec.command;
  return {
    path,
    // The image's own, where the relay's image is meant.
    environment: container.command === undefined ? { ...imageEnvironment(), ...environment } : environment,
    ports: container.ports.filter(({ name }) => name === 'http').map(({ containerPort }) => containerPort),
    paths: [container.startupProbe, container.livenessProbe, container.readinessProbe].map(
      ({ httpGet }) => httpGet.path,
    ),
    stopSeconds: program === 'sleep' ? terminationGracePeriodSeconds - Number(seconds) : 0,
    command: container.command?.join(' ') ?? '',
  };
}

function systemd(path: string): Recipe {
  const unit = read(path);
  const option = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  const pairs = [...option('Environment').matchAll(/(\w+)=(\S*)/g)];
  return {
    path,
    environment: Object.fromEntries(pairs.map(([, name = '', value = '']) => [name, value])),
    ports: [],
    paths: [],
    stopSeconds: option('KillMode') === 'mixed' ? Number(option('TimeoutStopSec')) : 0,
    command: option('ExecStart'),
  };
}

function imageEnvironment(): Environment {
  const [, words = ''] = /^ENV (NODE_ENV=.*)$/m.exec(read('Dockerfile')) ?? [];
  return Object.fromEntries(words.split(' ').map((word) => word.split('=') as [string, string]));
}

const BY_ITSELF = [
  fly(`${FOLDER}/fly/relay.toml`),
  render(`${FOLDER}/render/relay.yaml`),
  heroku(`${FOLDER}/heroku/relay`),
  kubernetes(`${FOLDER}/kubernetes/relay.yaml`),
  kubernetes(`${FOLDER}/kubernetes/nats.yaml`, 'outbox-relay'),
  systemd(`${FOLDER}/systemd/outbox-relay.service`),
];
const OF_PROJECTS = [
  fly(`${FOLDER}/fly/django.toml`),
  render(`${FOLDER}/render/django.yaml`),
  heroku(`${FOLDER}/heroku/django`),
  kubernetes(`${FOLDER}/kubernetes/django.yaml`),
  systemd(`${FOLDER}/systemd/outbox-relay-django.service`),
];
const RECIPES = [...BY_ITSELF, ...OF_PROJECTS];
const PORT = Number(imageEnvironment()['PORT']);

const compose = {
  alone: { ...SECRETS },
  postgres: readEnvFile(`${FOLDER}/compose/postgres.env`),
  django: readEnvFile(`${FOLDER}/compose/django.env`),
  nats: readEnvFile(`${FOLDER}/compose/nats.env`),
};

test('docker compose up starts the relay and nothing else; each profile adds what it is for', (t) => {
  const names = (env: Environment) => [...readCompose(env).keys()].sort();
  t.deepEqual(names(compose.alone), ['relay']);
  t.deepEqual(names(compose.postgres), ['migrate', 'postgres', 'relay']);
  t.deepEqual(names(compose.django), [
    'django',
    'django-front',
    'django-migrate',
    'django-worker',
    'postgres',
    'relay',
  ]);
  t.deepEqual(names(compose.nats), [
    'feeder',
    'migrate',
    'nats-1',
    'nats-2',
    'nats-3',
    'nats-front',
    'nats-setup',
    'postgres',
    'relay',
    'relay-2',
  ]);
});

test('docker compose up without DATABASE_URL says what it is, and what there is besides', (t) => {
  const { message } = t.throws(() => readCompose({}));
  t.regex(
    message,
    /^required variable DATABASE_URL .*DATABASE_URL=postgres:\/\/.* docker compose up\b.*postgres\.env up$/,
  );
});

test('in the Django profile tokens alone open channels, and Django, relay and PostgreSQL agree', (t) => {
  const { django: env } = compose;
  const services = readCompose(env);
  const of = (name: string) => environmentOf(services.get(name) ?? { image: '' }, env);
  const config = readConfig(of('relay'));
  t.is(config.publicChannels.key, readConfig({}).publicChannels.key);
  t.is(of('relay')['JWT_SECRET'], of('django')['JWT_SECRET']);
  for (const name of ['django', 'django-migrate', 'django-worker']) t.is(of(name)['DATABASE_URL'], config.databaseUrl);
});

for (const profile of ['postgres', 'django', 'nats'] as const) {
  test(`the addresses of the profile ${profile} lead to its PostgreSQL`, (t) => {
    const env = compose[profile];
    const services = readCompose(env);
    const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = environmentOf(
      services.get('postgres') ?? { image: '' },
      env,
    );
    const url = readConfig(environmentOf(services.get('relay') ?? { image: '' }, env)).databaseUrl;
    t.is(url, `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres:5432/${POSTGRES_DB}`);
  });
}

test('in the profile nats each has the right user, all share a secret, and servers get what their configuration asks for', (t) => {
  const { nats: env } = compose;
  const services = readCompose(env);
  const of = (name: string) => environmentOf(services.get(name) ?? { image: '' }, env);
  const users: Environment = { 'nats-setup': 'setup', feeder: 'feeder', relay: 'relay', 'relay-2': 'relay' };
  for (const [name, user] of Object.entries(users)) {
    const urls = (of(name)['NATS_URL'] ?? '').split(',').map((url) => new URL(url));
    t.deepEqual(
      urls.map(({ host }) => host),
      ['nats-1:4222', 'nats-2:4222', 'nats-3:4222'],
      name,
    );
    for (const { username, password } of urls) {
      t.deepEqual([username, password], [user, of('nats-1')[`NATS_${user.toUpperCase()}_PASSWORD`]], name);
    }
    t.notThrows(() => readConfig(of(name)), name);
  }
  for (const name of ['feeder', 'relay', 'relay-2']) t.is(of(name)['NATS_SECRET'], env['NATS_SECRET'], name);
  t.deepEqual(of('relay-2'), of('relay'));
  for (const name of ['nats-1', 'nats-2', 'nats-3']) {
    t.deepEqual(Object.keys(of(name)).sort(), variablesOfNats(), name);
    t.is(of(name)['NATS_NAME'], name);
  }
});

test('what compose starts of ours is restarted, is not root, and can neither write files nor gain rights', (t) => {
  for (const env of Object.values(compose)) {
    for (const [name, service] of readCompose(env)) {
      t.truthy(service.restart, name);
      for (const port of service.ports ?? []) t.regex(port, /^127\.0\.0\.1:/, name);
      if (!service.image.startsWith('outbox-relay')) continue;
      t.true(service.read_only, name);
      t.deepEqual(service.cap_drop, ['ALL'], name);
      t.deepEqual(service.security_opt, ['no-new-privileges:true'], name);
    }
  }
  for (const path of ['Dockerfile', 'examples/django/Dockerfile']) {
    const users = [...read(path).matchAll(/^USER (\d+):\d+$/gm)].map(([, uid]) => Number(uid));
    t.true(users.length === 1 && users.every((uid) => uid > 0), path);
  }
});

test("compose gives the relay its image's port, more files than MAX_CONNECTIONS, and time to stop", (t) => {
  const relay = readCompose(compose.alone).get('relay');
  if (relay === undefined) return t.fail();
  t.deepEqual(relay.ports, [`127.0.0.1:${PORT}:${PORT}`]);
  t.is(relay.environment?.['PORT'], PORT);
  t.deepEqual(
    Object.keys(relay.environment ?? {}).filter((name) => !VARIABLES.includes(name)),
    [],
  );
  t.true((relay.ulimits?.nofile ?? 0) > defaults.maxConnections);
  t.true(Number.parseInt(relay.stop_grace_period ?? '') > STOP_SECONDS);
  t.regex(read('examples/django/nginx.conf'), new RegExp(`proxy_pass http://relay:${PORT};`));
});

test('the image listens on the port that it exposes, and its health check asks for /healthz there', (t) => {
  const text = read('Dockerfile');
  t.regex(text, new RegExp(`^EXPOSE ${PORT}$`, 'm'));
  t.regex(text, /^HEALTHCHECK [^]+process\.env\.PORT}\/healthz/m);
  t.is(readConfig({ ...SECRETS, ...imageEnvironment() }).host, '0.0.0.0');
});

for (const { path, environment, ports, paths, stopSeconds } of RECIPES) {
  test(`${path}: its variables exist, and are a valid configuration`, (t) => {
    const known = [...VARIABLES, ...OF_OTHERS, 'NODE_ENV'];
    const unknown = Object.keys(environment).filter((name) => !known.includes(name));
    t.deepEqual(unknown, []);
    const { host, port } = readConfig({ ...SECRETS, ...environment });
    // Behind a proxy of another machine: all addresses. With systemd that proxy is on the same one.
    t.is(host, path.endsWith('.service') ? '127.0.0.1' : '0.0.0.0');
    for (const given of ports) t.deepEqual([given, port], [PORT, PORT]);
  });

  test(`${path}: it asks for health where the relay tells it, and leaves it the time to stop`, (t) => {
    const [readiness] = paths.slice(-1);
    if (readiness !== undefined) t.is(readiness, '/readyz');
    for (const each of paths) t.true(['/healthz', '/readyz'].includes(each), each);
    t.true(stopSeconds > STOP_SECONDS, `${stopSeconds}`);
  });
}

test("a project's relay is its manage.py's; a relay by itself is the package's or the image's", (t) => {
  for (const { path, command } of OF_PROJECTS) t.regex(command, /(^|\/)python manage\.py outbox_relay$/, path);
  for (const { path, command } of BY_ITSELF) t.regex(command, /^(npx outbox-relay|.*\/dist\/src\/main\.js|)$/, path);
});

test('what the recipes say of images is of this version', (t) => {
  for (const { path } of BY_ITSELF) {
    for (const [, tag] of read(path).matchAll(/\boutbox-relay(?:-migrate-|-setup-|:)(\d[\w.]*)/g))
      t.is(tag, version, path);
  }
});

for (const name of ['relay', 'django']) {
  test(`kubernetes/${name}.yaml: its parts mean the same pods, and these have no rights`, (t) => {
    const all = manifests(`${FOLDER}/kubernetes/${name}.yaml`);
    const deployment = all.find(({ kind }) => kind === 'Deployment');
    const labels = deployment?.spec.template.metadata.labels;
    for (const { kind, spec } of all) {
      if (kind === 'Service') t.deepEqual(spec.selector, labels);
      if (kind === 'Deployment' || kind === 'PodDisruptionBudget') t.deepEqual(spec.selector.matchLabels, labels);
      if (kind === 'NetworkPolicy') t.deepEqual(spec.podSelector?.matchLabels, labels);
      if (kind === 'Ingress') {
        const paths = spec.rules.flatMap(({ http }) => http.paths.map(({ path }) => path));
        t.deepEqual(paths, ['/events', '/outbox-relay.js', '/outbox-relay-htmx.js']);
      }
      if (kind !== 'Deployment' && kind !== 'Job') continue;
      const { securityContext, containers } = spec.template.spec;
      t.like(securityContext, { runAsNonRoot: true, runAsUser: 1000 }, kind);
      t.deepEqual(containers[0].securityContext, {
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      });
    }
    t.deepEqual(
      ['Deployment', 'Service', 'Ingress', 'PodDisruptionBudget', 'NetworkPolicy'].filter(
        (kind) => !all.some((each) => each.kind === kind),
      ),
      [],
    );
  });
}

test('kubernetes/nats.yaml: what selects pods selects some, servers get all that their configuration asks for, and none has rights', (t) => {
  const all = manifests(`${FOLDER}/kubernetes/nats.yaml`);
  const pods = all.filter(({ kind }) => ['Deployment', 'StatefulSet', 'Job'].includes(kind));
  const labels = pods.map(({ spec }) => spec.template.metadata.labels as Environment);
  const names = labels.map((each) => each['app.kubernetes.io/name'] ?? '');
  t.deepEqual(names, ['nats', 'outbox-relay-setup', 'outbox-feeder', 'outbox-relay']);
  for (const { kind, metadata, spec } of all) {
    const selector =
      kind === 'Service' ? spec.selector : (spec.selector as typeof spec.selector | undefined)?.matchLabels;
    if (kind !== 'Job' && selector !== undefined)
      t.true(
        labels.some((each) => isDeepStrictEqual(each, selector)),
        metadata.name,
      );
  }
  const chosen = [...read(`${FOLDER}/kubernetes/nats.yaml`).matchAll(/operator: In, values: \[([^\]]+)\]/g)];
  t.is(chosen.length, 2);
  for (const [, values = ''] of chosen)
    t.deepEqual(values.split(', ').sort(), names.filter((name) => name !== 'nats').sort());
  for (const { metadata, spec } of pods) {
    const { securityContext, containers } = spec.template.spec;
    t.like(securityContext, { runAsNonRoot: true, runAsUser: 1000 }, metadata.name);
    t.like(
      containers[0].securityContext,
      { readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      metadata.name,
    );
  }
  const [server] = pods;
  const given = server?.spec.template.spec.containers[0].env.map(({ name }) => name) ?? [];
  // The passwords are a secret's.
  t.deepEqual(
    variablesOfNats().filter((name) => !name.endsWith('_PASSWORD')),
    given.sort(),
  );
});

test('systemd: both units allow more files than MAX_CONNECTIONS, start again, and are as closed as each other', (t) => {
  const lines = ['outbox-relay', 'outbox-relay-django'].map((name) => {
    const text = read(`${FOLDER}/systemd/${name}.service`);
    t.true(Number(/^LimitNOFILE=(\d+)$/m.exec(text)?.[1]) > defaults.maxConnections, name);
    t.regex(text, /^Restart=always$/m, name);
    return text
      .split('\n')
      .filter((line) => /^(Cap|Device|Lock|NoNew|Private|Protect|Remove|Restrict|System|UMask)/.test(line));
  });
  const [own = [], project = []] = lines;
  // A project may live in a home.
  t.deepEqual(
    project.map((line) => line.replace('=read-only', '=yes')),
    own,
  );
});

test('outbox-relay.env is a configuration once its secret is filled in', (t) => {
  const env = readEnvFile(`${FOLDER}/outbox-relay.env`);
  t.deepEqual(
    Object.keys(env).filter((name) => !VARIABLES.includes(name)),
    [],
  );
  t.notThrows(() => readConfig({ ...env, JWT_SECRET: SECRETS.JWT_SECRET }));
});

test('docs/deploy.md leads to every recipe', (t) => {
  const { links, text } = readPage('docs/deploy.md');
  const files = readdirSync(join(ROOT, FOLDER), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith('requirements'))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length));
  t.true(files.length >= 14, files.join('\n'));
  for (const file of files) t.true(links.includes(`../${file}`) || text.includes(file), file);
});
