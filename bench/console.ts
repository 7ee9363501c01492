/**
 * Console: what it costs deliveries that somebody looks. One relay, one crowd; in turns a page of
 * the console is open, with all its views, and none is. CPU time of the relay, all included.
 */
import { once } from 'node:events';
import http from 'node:http';
import pg from 'pg';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median } from './usage.js';

export interface ConsoleOptions {
  readonly connections: number;
  readonly rounds: number;
}

const SIZE = 300;
const PACE = { burst: 1, events: 90, rate: 30 };
const LEAST_RATIO = 0.98;
const WARM_UP_ROUNDS = 2;
const PASSWORD = 'only for this bench';

export async function measureConsole(databaseUrl: string, { connections, rounds }: ConsoleOptions): Promise<Result> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const relay = await startObservedRelay(
    {
      DATABASE_URL: databaseUrl,
      PUBLIC_CHANNELS: '*',
      HEARTBEAT_SECONDS: '3600',
      LOG_LEVEL: 'info',
      CONSOLE: 'true',
      CONSOLE_PASSWORD: PASSWORD,
    },
    { collects: false },
  );
  const generator = await startGenerator({ url: `${relay.url}/events/fanout`, connections });
  try {
    const cookie = await signIn(relay.url);
    let published = 0;
    const turn = async (isOpen: boolean): Promise<number> => {
      const page = isOpen ? await openPage(relay.url, cookie) : undefined;
      await generator.reset();
      const before = cpuSeconds(relay.pid);
      await publish(database, {
        ...PACE,
        channel: 'fanout',
        size: SIZE,
        after: published,
        inserted: (events) => generator.until(events * connections),
      });
      published += PACE.events;
      await generator.until(PACE.events * connections);
      const spent = cpuSeconds(relay.pid) - before;
      page?.destroy();
      const { deliveries, gaps, doubles, disorder } = await generator.report();
      if (deliveries !== PACE.events * connections || gaps + doubles + disorder > 0)
        throw new Error('deliveries went wrong');
      return deliveries / spent;
    };
    const rates = { open: [] as number[], none: [] as number[] };
    const ratios: number[] = [];
    for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
      const first = await turn(round % 2 === 0);
      const second = await turn(round % 2 !== 0);
      if (round < 0) continue;
      const [open, none] = round % 2 === 0 ? [first, second] : [second, first];
      rates.open.push(open);
      rates.none.push(none);
      ratios.push(open / none);
    }
    const ratio = median(ratios);
    return {
      part: 'console',
      title: `An event of ${SIZE} bytes to ${connections} clients, ${rounds} rounds of ${PACE.events}, with a console open and with none: medians`,
      rows: [
        { console: 'open', 'deliveries/CPU s': Math.round(median(rates.open)) },
        { console: 'none', 'deliveries/CPU s': Math.round(median(rates.none)) },
      ],
      ratio,
      bar: { is: `ratio at least ${LEAST_RATIO}`, holds: ratio >= LEAST_RATIO },
    };
  } finally {
    await generator.close();
    await Promise.all([relay.stop(), database.end()]);
  }
}

async function signIn(url: string): Promise<string> {
  const response = await fetch(`${url}/console/session`, {
    method: 'POST',
    body: JSON.stringify({ password: PASSWORD }),
  });
  const cookie = response.headers.get('Set-Cookie')?.split(';', 1)[0];
  if (response.status !== 204 || cookie === undefined) throw new Error(`the console does not open: ${response.status}`);
  return cookie;
}

/** Resolves when it has been told of all views. */
async function openPage(url: string, cookie: string): Promise<http.ClientRequest> {
  const request = http.get(`${url}/console/api/live`, { agent: false, headers: { cookie } });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  if (response.statusCode !== 200) throw new Error(`the console does not open: ${response.statusCode ?? 0}`);
  request.on('error', () => undefined);
  response.on('error', () => undefined);
  let text = '';
  await new Promise<void>((done) => {
    response.setEncoding('utf8').on('data', (chunk: string) => {
      if (text === 'told') return;
      text += chunk;
      if (!text.includes('event: channels')) return;
      text = 'told';
      done();
    });
  });
  return request;
}
