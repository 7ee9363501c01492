/**
 * The example, all of it, with one command: npm run example:django
 *
 * PostgreSQL (its own, in examples/django/.data, or DATABASE_URL), migrations, users to log in as, Django under gunicorn, a worker, the
 * relay, and a front that makes one origin of them. PORT is the front's. `r` and Enter stop the relay, and start it again. Ctrl-C stops all of
 * them in the opposite order.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startEmbedded } from '../../dist/packages/embedded-postgres/embedded.js';
import { startFront } from './front.mjs';
import { ensureVenv, PythonError } from './venv.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
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
    PYTHONUNBUFFERED: '1',
  };
  const manage = (...args) => execFileSync(python, ['manage.py', ...args], { cwd: HERE, env, encoding: 'utf8' });

  console.log('Migrating …');
  manage('migrate');
  const logIns = manage('demo_users');

  const gunicorn = ['-m', 'gunicorn', 'shop.wsgi', '--bind', '127.0.0.1:0', '--workers', '2', '--threads', '4'];
  const app = startChild('gunicorn', python, gunicorn, env, (line) => /Listening at: (http:\S+)/.exec(line)?.[1]);
  startChild('worker', python, ['manage.py', 'move_orders'], env);
  const relay = startRelay(python, env);
  const urls = { app: await app.ready, relay: await relay.ready };
  const front = await startFront({ ...urls, port });
  stops.push(front.stop);

  console.log(`
  The tea shop, live.

    Page      ${front.url}/
    Log in    ${logIns.trim().split('\n').join('\n              ')}

    Behind it: Django under gunicorn at ${urls.app}, the relay at ${urls.relay},
    and PostgreSQL at ${databaseUrl}

  r and Enter stops the relay, and starts it again: the shop goes on, and pages get what they missed.
  Ctrl-C stops it all.
`);
  createInterface(process.stdin).on('line', (line) => line.trim() === 'r' && relay.toggle());
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

/** The relay, with its settings from Django's. It comes back where it was, so that the front finds it. */
function startRelay(python, env) {
  let child;
  let turn = Promise.resolve();
  const start = (port) => {
    const own = { ...env, HOST: '127.0.0.1', PORT: port, LOG_LEVEL: 'info' };
    child = startChild('relay', python, ['manage.py', 'outbox_relay'], own, (line) => {
      const { msg, url } = parse(line);
      return msg === 'listening' ? url : undefined;
    });
    return child.ready;
  };
  const ready = start('0');
  let isUp = true;
  async function turnOver() {
    isUp = !isUp;
    if (isUp) await start(new URL(await ready).port);
    else await child.stop();
    console.log(
      isUp ? '  The relay is back.' : '  The relay is stopped. Publish something, then start it again: r and Enter.',
    );
  }
  return { ready, toggle: () => (turn = turn.then(turnOver).catch(() => {})) };
}

/**
 * Starts a process that ends with this one. `ready` resolves with what `find` finds in a line of its output; at once without it. `stop` may be
 * called twice.
 */
function startChild(name, command, args, env, find) {
  // In a group of its own: a Ctrl-C in the terminal is for this process, which knows the order.
  const child = spawn(command, args, { cwd: HERE, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  void ended.then(() => process.off('exit', kill));
  let stopping = false;
  const stop = async () => {
    stopping = true;
    const timer = setTimeout(kill, GRACE_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(timer);
  };
  stops.push(stop);
  const ready = new Promise((resolve, reject) => {
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
        const found = find?.(line);
        if (found) resolve(found);
      });
    }
    if (!find) resolve(undefined);
  });
  // Whoever waits for it hears of it all the same.
  ready.catch(() => {});
  return { ready, stop };
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
