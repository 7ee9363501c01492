/**
 * The example, all of it, with one command: npm run example:django
 *
 * PostgreSQL (its own, in examples/django/.data, or DATABASE_URL), both kinds of migrations, users to log in as, Django under gunicorn, a
 * worker, the relay, and a front that makes one origin of them. PORT is the front's. Ctrl-C stops them in the opposite order.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startEmbedded } from '../../dist/packages/embedded-postgres/embedded.js';
import { migrate } from '../../dist/src/postgres/migrate.js';
import { startFront } from './front.mjs';
import { ensureVenv, PythonError } from './venv.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const RELAY = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const GRACE_MS = 15_000;

const stops = [];
/** Heard from the first moment: a Ctrl-C amid the start must not leave a database server behind. */
const told = new Promise((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => resolve(signal));
});

try {
  const port = Number(process.env.PORT ?? 8000);
  const python = ensureVenv('.venv', ['-r', 'requirements.txt']);
  const databaseUrl = process.env.DATABASE_URL || (await ownDatabase());
  const env = {
    ...process.env,
    DATABASE_URL: databaseUrl,
    SECRET_KEY: process.env.SECRET_KEY ?? randomBytes(48).toString('base64'),
    // The one secret that Django and the relay share.
    JWT_SECRET: process.env.JWT_SECRET ?? randomBytes(48).toString('base64'),
    PYTHONUNBUFFERED: '1',
  };
  const manage = (...args) => execFileSync(python, ['manage.py', ...args], { cwd: HERE, env, encoding: 'utf8' });

  console.log('Migrating …');
  await migrate(databaseUrl, 'up');
  manage('migrate');
  const logIns = manage('demo_users');

  const gunicorn = ['-m', 'gunicorn', 'shop.wsgi', '--bind', '127.0.0.1:0', '--workers', '2', '--threads', '4'];
  const app = await startChild('gunicorn', python, gunicorn, env, (line) => /Listening at: (http:\S+)/.exec(line)?.[1]);
  const worker = ['manage.py', 'move_orders'];
  await startChild('worker', python, worker, env);
  const relayEnv = { ...env, HOST: '127.0.0.1', PORT: '0', PUBLIC_CHANNELS: '', LOG_LEVEL: 'info' };
  const relay = await startChild('relay', process.execPath, [RELAY], relayEnv, (line) => {
    const { msg, url } = parse(line);
    return msg === 'listening' ? url : undefined;
  });
  const front = await startFront({ app, relay, port });
  stops.push(front.stop);

  console.log(`
  The tea shop, live.

    Page      ${front.url}/
    Log in    ${logIns.trim().split('\n').join('\n              ')}

    Behind it: Django under gunicorn at ${app}, the relay at ${relay},
    and PostgreSQL at ${databaseUrl}

  Ctrl-C stops it all.
`);
  await told;
} catch (error) {
  console.error(error instanceof PythonError ? error.message : explain(error));
  process.exitCode = 1;
} finally {
  for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  process.exit();
}

async function ownDatabase() {
  console.log('Starting a PostgreSQL of its own, with its data in examples/django/.data/ …');
  const server = await startEmbedded({ dataDirectory: `${HERE}.data` });
  stops.push(() => server.stop());
  return server.url;
}

/** Starts a process that ends with this one. Resolves with what `ready` finds in a line of its output; at once without it. */
async function startChild(name, command, args, env, ready) {
  // In a group of its own: a Ctrl-C in the terminal is for this process, which knows the order.
  const child = spawn(command, args, { cwd: HERE, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  const stop = async () => {
    stopping = true;
    const timer = setTimeout(kill, GRACE_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(timer);
  };
  let stopping = false;
  stops.push(stop);
  return new Promise((resolve, reject) => {
    const latest = [];
    child.once('error', reject);
    child.once('exit', (code) => {
      if (stopping) return;
      console.error(`${name} has ended (${code}):\n${latest.join('\n')}`);
      reject(new Error(`${name} has ended.`));
      process.exitCode = 1;
      process.kill(process.pid, 'SIGTERM');
    });
    for (const output of [child.stdout, child.stderr]) {
      createInterface(output).on('line', (line) => {
        latest.splice(0, latest.length - 19);
        latest.push(line);
        const found = ready?.(line);
        if (found) resolve(found);
      });
    }
    if (!ready) resolve(undefined);
  });
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return {};
  }
}

function explain(error) {
  if (error.code === 'EADDRINUSE') return `Port taken: ${error.message}. Stop the other process, or set PORT.`;
  return error.stderr ? `${error.message}\n${error.stderr}` : (error.stack ?? String(error));
}
