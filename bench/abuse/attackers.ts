/**
 * The attackers, in a process of their own, so that neither the relay nor those who measure it pay for what they do. The application
 * that they ask for rights through the relay is here, too: it is theirs to keep busy.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once, setMaxListeners } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { codeOf, type Noted, type Scene } from '../../test/support/attacks/attack.js';
import { ATTACKS } from '../../test/support/attacks/attacks.js';
import { randomOf } from '../../test/support/random.js';

export interface Attackers {
  /** Where the application answers, slowly, that `session=user…` may read `private:1`, and nobody else. */
  readonly appUrl: string;
  /** Does what an attack needs beforehand; resolves with what it noted. */
  prepare(attack: string, scene: SceneUrls): Promise<Noted>;
  attack(): Promise<void>;
  /** Resolves when all have let go, with what came of what they did. */
  retreat(): Promise<Readonly<Record<string, number>>>;
  stop(): Promise<void>;
}

export type SceneUrls = Pick<Scene, 'url' | 'metricsUrl' | 'databaseUrl' | 'strangerUrl'>;

type Order =
  | { readonly kind: 'prepare'; readonly attack: string; readonly urls: SceneUrls }
  | { readonly kind: 'attack' | 'retreat' };

/** The same choices in each run. */
const SEED = 1;
const ATTACKERS = 10;
const ANSWER_MS = 500;
/** What hangs after that is given up. */
const RETREAT_MS = 5000;

export async function startAttackers(): Promise<Attackers> {
  const child = fork(fileURLToPath(import.meta.url), ['serve']);
  const [appUrl] = (await once(child, 'message')) as [string];
  return {
    appUrl,
    prepare: (attack, urls) => ask(child, { kind: 'prepare', attack, urls }),
    attack: () => ask(child, { kind: 'attack' }),
    retreat: () => ask(child, { kind: 'retreat' }),
    async stop() {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function ask<T>(child: ChildProcess, order: Order): Promise<T> {
  const answered = once(child, 'message') as Promise<[{ value: T } | { error: string }]>;
  child.send(order);
  const [answer] = await answered;
  if ('error' in answer) throw new Error(answer.error);
  return answer.value;
}

function serve(): void {
  const random = randomOf(SEED, 'attackers');
  let current: { attack: (typeof ATTACKS)[number]; urls: SceneUrls; noted: Record<string, number> } | undefined;
  let running: Promise<unknown> = Promise.resolve();
  let retreat = new AbortController();
  let counts: Record<string, number> = {};

  function scene(signal: AbortSignal): Scene {
    if (!current) throw new Error('nothing is prepared');
    const { urls, noted } = current;
    return {
      ...urls,
      signal,
      random,
      address: '127.0.0.1',
      noted,
      count: (outcome) => (counts[outcome] = (counts[outcome] ?? 0) + 1),
      note: (name, value) => (noted[name] = value),
    };
  }

  async function obey(order: Order): Promise<unknown> {
    switch (order.kind) {
      case 'prepare': {
        const attack = ATTACKS.find(({ name }) => name === order.attack);
        if (!attack) throw new Error(`there is no attack ${order.attack}`);
        current = { attack, urls: order.urls, noted: {} };
        counts = {};
        await attack.prepare?.(scene(new AbortController().signal));
        return current.noted;
      }
      case 'attack': {
        retreat = new AbortController();
        setMaxListeners(0, retreat.signal);
        const at = scene(retreat.signal);
        const { attack } = current ?? {};
        const one = async (n: number) => {
          await attack
            ?.loop({ ...at, address: `127.0.1.${n + 1}` }, n)
            .catch((error: unknown) => at.count(codeOf(error)));
        };
        running = Promise.all(Array.from({ length: attack?.attackers ?? ATTACKERS }, (_, n) => one(n)));
        return undefined;
      }
      case 'retreat':
        retreat.abort();
        await Promise.race([running, new Promise((done) => setTimeout(done, RETREAT_MS))]);
        return counts;
    }
  }

  process.on('message', (order: Order) => {
    obey(order).then(
      (value) => process.send?.({ value }),
      (error: unknown) => process.send?.({ error: String(error) }),
    );
  });
  const app = http.createServer((request, response) => {
    const isKnown = /session=user/.test(request.headers.cookie ?? '');
    setTimeout(() => {
      response
        .writeHead(isKnown ? 200 : 403, { 'Content-Type': 'application/json' })
        .end(JSON.stringify({ channels: isKnown ? ['private:1'] : [] }));
    }, ANSWER_MS);
  });
  app.listen(0, '127.0.0.1', () => {
    process.send?.(`http://127.0.0.1:${(app.address() as AddressInfo).port}/`);
  });
}

if (process.argv[2] === 'serve' && process.send) {
  serve();
}
