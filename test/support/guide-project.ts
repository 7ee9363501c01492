/**
 * A project of Django's as a reader of the guides has it, in a fresh virtual environment: a page, a log-in and a database. And the
 * reader, who types a guide's lines and commands as they stand there.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { createDatabase, type TestDatabase } from './database.js';
import { readPage, ROOT } from './docs.js';
import { runPython } from './python.js';
import type { Teardown } from './site.js';

const run = promisify(execFile);

export const USER = { name: 'ann', password: 'a password of the guides' } as const;

export interface GuideProject {
  readonly folder: string;
  readonly database: TestDatabase;
  /** The interpreter of its virtual environment. */
  readonly python: string;
  /** Runs `manage.py` to its end. @throws Error with what it printed, unless it succeeds */
  manage(...args: string[]): Promise<string>;
  write(file: string, text: string): Promise<void>;
  append(file: string, text: string): Promise<void>;
  /** Runs a command in a shell with the environment activated. @throws Error with what it printed, unless it succeeds */
  type(command: string): Promise<void>;
  /** The same for one that runs until Ctrl-C, which it gets at the end. Resolves when it prints what is looked for. */
  leaveRunning(command: string, ready: RegExp): Promise<Running>;
}

export interface Running {
  /** All that it has printed. */
  readonly lines: readonly string[];
  /** Kills the one process below it whose command line has these words. */
  killBelow(words: string): Promise<void>;
  /** Ctrl-C; resolves when it has ended. */
  interrupt(): Promise<void>;
}

/** Without the outbox, and with tables and one user, as a project has them that is there already. */
export async function makeProject(t: Teardown): Promise<GuideProject> {
  const database = await createDatabase(t, { template: false });
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-guide-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const env = {
    PATH: `${folder}/venv/bin:/usr/bin:/bin`,
    HOME: process.env['HOME'] ?? '',
    PYTHONUNBUFFERED: '1',
  };
  const python = join(folder, 'venv/bin/python');
  const type = async (command: string) => {
    await run('sh', ['-c', command], { cwd: folder, env }).catch((error: unknown) => {
      const { stdout, stderr } = error as { stdout: string; stderr: string };
      throw new Error(`${command}\n${stdout}${stderr}`, { cause: error });
    });
  };
  const manage = async (...args: string[]) => {
    const { code, output } = await runPython(python, ['manage.py', ...args], { cwd: folder, env });
    if (code !== 0) throw new Error(`manage.py ${args.join(' ')} failed:\n${output}`);
    return output;
  };
  const write = (file: string, text: string) => writeFile(join(folder, file), text);
  const append = (file: string, text: string) => appendFile(join(folder, file), text);

  await run(process.env['PYTHON'] || 'python3', ['-m', 'venv', join(folder, 'venv')]);
  await type('pip install --quiet --disable-pip-version-check Django "psycopg[binary]"');
  await type('django-admin startproject mysite .');
  await append('mysite/settings.py', settings(database.url));
  await append(
    'mysite/urls.py',
    `
from django.contrib.auth.views import LoginView
from mysite import views
urlpatterns += [path("log-in/", LoginView.as_view(template_name="log-in.html")), path("", views.page)]
`,
  );
  await mkdir(join(folder, 'templates'));
  await write(
    'templates/log-in.html',
    html('<form method="post">{% csrf_token %}{{ form }}<button>Log in</button></form>'),
  );
  await write('templates/page.html', html('<p>theirs</p>'));
  await write('mysite/views.py', page('', ''));
  await manage('migrate');
  const { name, password } = USER;
  const make = `from django.contrib.auth.models import User; User.objects.create_user("${name}", password="${password}")`;
  await manage('shell', '-c', make);
  return {
    folder,
    database,
    python,
    manage,
    write,
    append,
    type,
    async leaveRunning(command, ready) {
      // A group of its own, as the terminal makes for it: Ctrl-C is for all of it.
      const child = spawn('sh', ['-c', command], {
        cwd: folder,
        env,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const running = await watch(child, ready);
      t.teardown(running.interrupt);
      return running;
    },
  };
}

/** The view of their page, with the guide's lines in it. */
export function page(imports: string, body: string): string {
  return `from django.contrib.auth.decorators import login_required
from django.shortcuts import render
${imports}

@login_required
def page(request):
${body.replaceAll(/^(?=.)/gm, '    ')}
    return render(request, "page.html")
`;
}

export function html(body: string): string {
  return `<!doctype html><html lang="en"><title>theirs</title><link rel="icon" href="data:,"><body>${body}</body></html>`;
}

function settings(databaseUrl: string): string {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const theirs = {
    ENGINE: 'django.db.backends.postgresql',
    HOST: hostname,
    PORT: port,
    USER: decodeURIComponent(username),
    PASSWORD: decodeURIComponent(password),
    NAME: pathname.slice(1),
  };
  return `
DATABASES = {"default": ${JSON.stringify(theirs)}}
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
LOGIN_URL = "/log-in/"
LOGIN_REDIRECT_URL = "/"
`;
}

async function watch(child: ChildProcess, ready: RegExp): Promise<Running> {
  const gone = once(child, 'close');
  const lines: string[] = [];
  const pid = child.pid ?? 0;
  const isReady = new Promise<void>((resolve, reject) => {
    void gone.then(() => reject(new Error(`It ended early:\n${lines.join('\n')}`)));
    for (const output of [child.stdout, child.stderr]) {
      if (output === null) continue;
      createInterface(output).on('line', (line) => {
        lines.push(line);
        if (ready.test(line)) resolve();
      });
    }
  });
  const running: Running = {
    lines,
    async killBelow(words) {
      const found = below(pid).filter((each) => readFileSync(`/proc/${each}/cmdline`, 'utf8').includes(words));
      if (found.length !== 1) throw new Error(`${found.length} processes with ${words}`);
      process.kill(found[0] ?? 0, 'SIGKILL');
      return Promise.resolve();
    },
    async interrupt() {
      if (child.exitCode === null && child.signalCode === null) process.kill(-pid, 'SIGINT');
      await gone;
    },
  };
  try {
    await isReady;
  } catch (error) {
    await running.interrupt();
    throw error;
  }
  return running;
}

/** Ids of all processes below one, whichever of its threads has started them. */
function below(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
  return children.flatMap((child) => [child, ...below(child)]);
}

/** What a guide has the reader do, up to a heading if one is given: commands, and own lines by the file that they go into. */
export function readGuide(name: string, end?: string): { commands: string[]; lines: ReadonlyMap<string, string> } {
  const { text } = readPage(`docs/${name}`);
  const part = end === undefined ? text : (text.split(`## ${end}\n`)[0] ?? '');
  const lines = new Map<string, string>();
  for (const [, file = '', code = ''] of part.matchAll(/^In `([^`]+)`[^\n]*\n(?:[^\n]+\n)*\n```\w+\n([\s\S]*?)```/gm)) {
    lines.set(file, code);
  }
  const commands = [...part.matchAll(/^```sh\n([\s\S]*?)```/gm)].flatMap(([, code = '']) =>
    code.split('\n').filter((line) => line.trim() !== ''),
  );
  return { commands, lines };
}

/** The wheel as it is published, made anew. */
export async function buildWheel(t: Teardown): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-wheel-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await run(process.execPath, [join(ROOT, 'packages/django/build.mjs'), folder]);
  const wheel = readdirSync(folder).find((file) => file.endsWith('.whl'));
  if (wheel === undefined) throw new Error(`There is no wheel in ${folder}.`);
  return join(folder, wheel);
}

/** The one asked for, or where that is taken any that is free. */
export async function freePort(wanted = 0): Promise<number> {
  const probe = createServer().listen(wanted, '127.0.0.1');
  try {
    await once(probe, 'listening');
  } catch {
    return freePort();
  }
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
