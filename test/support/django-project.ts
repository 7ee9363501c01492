/**
 * A Django project as `startproject` makes it, with the outbox's own two lines, run from the wheel: its commands, its servers, and the
 * relays that belong to it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { createDatabase, type TestDatabase } from './database.js';
import { wheelVenv } from './django-wheel.js';
import { freePort } from './port.js';
import { runPython, type PythonOutcome } from './python.js';
import type { Teardown } from './site.js';

/** How long a process may take to be gone from the system after what ends it. */
const END_LEEWAY_MS = 15_000;

const MANAGE = `import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
execute_from_command_line(sys.argv)
`;

const SETTINGS = (url: URL, own: string) => `
SECRET_KEY = "of a project of the tests, of which nobody is to know anything at all"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
ASGI_APPLICATION = "site_asgi.application"
STATIC_URL = "static/"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": ${JSON.stringify(url.hostname)},
        "PORT": ${JSON.stringify(url.port)},
        "NAME": ${JSON.stringify(url.pathname.slice(1))},
        "USER": ${JSON.stringify(decodeURIComponent(url.username))},
        "PASSWORD": ${JSON.stringify(decodeURIComponent(url.password))},
    }
}
INSTALLED_APPS += ["outbox"]
MIDDLEWARE += ["outbox.middleware.OutboxMiddleware"]
${own}
`;

const URLS = `
from django.http import JsonResponse
from django.urls import path
from outbox import relay_child
urlpatterns = [path("relay-address", lambda request: JsonResponse({"address": relay_child.address()}))]
`;

const WSGI = (kind: 'wsgi' | 'asgi') => `
import os
from django.core.${kind} import get_${kind}_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
application = get_${kind}_application()
`;

export type Env = Readonly<Record<string, string>>;

export interface Project {
  readonly database: TestDatabase;
  readonly folder: string;
  /** Runs \`manage.py\` to its end. */
  manage(args: readonly string[], env?: Env): Promise<PythonOutcome>;
  /** The same, and fails unless it succeeds. Resolves with what it printed. */
  succeed(...args: string[]): Promise<string>;
  /** Starts a program of the venv; it ends with the test. */
  start(args: readonly string[], env?: Env): Program;
  /** Starts \`manage.py runserver\` on a free port. */
  runserver(args?: readonly string[], env?: Env): Promise<Program & { readonly url: string }>;
  publish(channel: string, data: string): Promise<void>;
  /** Process ids of its relays that run. */
  relays(): Promise<number[]>;
  /** Resolves when none runs any more. */
  untilNoRelay(): Promise<void>;
  /** As an editor does that saves a file. */
  touch(): Promise<void>;
}

export interface Program {
  readonly child: ChildProcess;
  /** All lines up to now, of both outputs. */
  readonly lines: readonly string[];
  /** Resolves with the first line, past or future, that matches. Rejects, with all of them, when the program ends first. */
  until(pattern: RegExp, from?: number): Promise<string>;
  /** Resolves with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
}

/**
 * @param own further lines of its settings
 * @param isMigrated false: the database is empty
 */
export async function createProject(t: Teardown, own = '', isMigrated = true): Promise<Project> {
  const { python, path } = wheelVenv();
  const database = await createDatabase(t, { template: isMigrated });
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-project-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const files = {
    'manage.py': MANAGE,
    'site_settings.py': SETTINGS(new URL(database.url), own),
    'site_urls.py': URLS,
    'site_wsgi.py': WSGI('wsgi'),
    'site_asgi.py': WSGI('asgi'),
  };
  await mkdir(join(folder, 'static'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);

  const base = { PATH: path, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', HOME: folder };
  const manage = (args: readonly string[], env: Env = {}) =>
    runPython(python, ['manage.py', ...args], { cwd: folder, env: { ...base, ...env } });

  async function succeed(...args: string[]): Promise<string> {
    const { code, output } = await manage(args);
    if (code !== 0) throw new Error(`manage.py ${args.join(' ')}: ${output}`);
    return output;
  }

  function start(args: readonly string[], env: Env = {}): Program {
    // In a group of its own, which a terminal would send a Ctrl-C to.
    const child = spawn(python, args, {
      cwd: folder,
      env: { ...base, ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = once(child, 'close').then((end) => (end as [number | null, string | null]).find((it) => it !== null));
    t.teardown(async () => {
      signalGroup(child, 'SIGKILL');
      await ended;
      await untilNoRelay();
    });
    const lines: string[] = [];
    const waiters = new Set<() => void>();
    const wake = () => {
      for (const waiter of [...waiters]) waiter();
    };
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on('line', (line) => {
        lines.push(line);
        wake();
      });
    }
    let isOver = false;
    void ended.then(() => {
      isOver = true;
      wake();
    });
    return {
      child,
      lines,
      ended: ended.then((end) => end ?? null),
      until: (pattern, from = 0) =>
        new Promise((resolve, reject) => {
          const look = () => {
            const found = lines.slice(from).find((line) => pattern.test(line));
            if (found === undefined && !isOver) return;
            waiters.delete(look);
            if (found !== undefined) resolve(found);
            else reject(new Error(`ended without ${String(pattern)}:\n${lines.join('\n')}`));
          };
          waiters.add(look);
          look();
        }),
    };
  }

  async function relays(): Promise<number[]> {
    const found: number[] = [];
    for (const entry of await readdir('/proc')) {
      const text = await readFile(`/proc/${entry}/environ`, 'latin1').catch(() => '');
      const command = text === '' ? '' : await readFile(`/proc/${entry}/cmdline`, 'latin1').catch(() => '');
      if (/bundle\/main\.js/.test(command) && text.includes(`/${database.name}`)) found.push(Number(entry));
    }
    return found;
  }

  async function untilNoRelay(): Promise<void> {
    for (const end = Date.now() + END_LEEWAY_MS; ;) {
      const left = await relays();
      if (left.length === 0) return;
      if (Date.now() > end) {
        for (const pid of left) process.kill(pid, 'SIGKILL');
        throw new Error(`A relay was left over: ${left.join(', ')}`);
      }
      await delay(20);
    }
  }

  return {
    database,
    folder,
    manage,
    succeed,
    start,
    async runserver(args = [], env = {}) {
      const port = await freePort();
      const program = start(['manage.py', 'runserver', `127.0.0.1:${port}`, ...args], env);
      return { ...program, url: `http://127.0.0.1:${port}` };
    },
    async publish(channel, data) {
      await database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [channel, data]);
    },
    relays,
    untilNoRelay,
    async touch() {
      const now = new Date();
      await utimes(join(folder, 'site_urls.py'), now, now);
    },
  };
}

/** As a terminal does. */
export function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It has ended.
  }
}
