/**
 * What happens to servers of NATS: one of them or all are killed, stopped where they stand, rolled, and parted from each other, and
 * what they have stored is lost, cut off, and put back as it was before.
 */
import { cp, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Party } from './fate.js';
import { makeFolder } from './folder.js';
import type { NatsServer, NatsServers } from './nats.js';
import type { Exposure } from './world.js';

/** The longest that servers stay away, in milliseconds; each time one of these is picked. */
const AWAY_MS = [0, 500, 3_000] as const;
/** Longer than the cluster takes to notice, and shorter. */
const STOPPED_MS = [200, 3_000, 9_000] as const;
const LONG_MS = [6_000, 15_000] as const;
/** Of the end of a file, in bytes. */
const MOST_CUT_OFF = 20_000;

interface StreamDetail {
  readonly account_details?: readonly {
    readonly stream_detail?: readonly { readonly name: string; readonly cluster?: { readonly leader?: string } }[];
  }[];
}

export interface NatsFaultsOptions {
  readonly nats: NatsServers;
  /** Makes the stream anew, as an operator does when it is gone. */
  readonly setUp: () => Promise<void>;
  /** Called before what is stored is lost; resolves with what is wrong with it, in words. */
  readonly inspect: () => Promise<readonly string[]>;
}

export async function createNatsFaults(
  t: Pick<ExecutionContext, 'teardown'>,
  { nats, setUp, inspect }: NatsFaultsOptions,
  { random, shift }: Exposure,
): Promise<Party> {
  const complaints: string[] = [];
  const copies = await makeFolder(t, 'nats-copies');
  let wiped = 0;
  const { servers } = nats;
  /** Servers are ended and started by one fault at a time: what else happens to them may happen meanwhile. */
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = (fault: () => Promise<unknown>) => () => (turn = turn.catch(() => undefined).then(fault));
  const one = () => random.pick(servers);

  /** Resolves with the server that leads the stream, where one says that it does. */
  async function leader(): Promise<NatsServer | undefined> {
    for (const server of random.sample(servers, servers.length)) {
      try {
        const { account_details: accounts = [] } = (await server.ask('/jsz?streams=true')) as StreamDetail;
        const [stream] = accounts.flatMap(({ stream_detail: streams = [] }) => streams);
        const name = stream?.cluster?.leader;
        const found = servers.find((each) => each.name === name);
        if (found) return found;
      } catch {
        // It is away.
      }
    }
    return undefined;
  }

  async function kill(server: NatsServer | undefined, how: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<boolean> {
    if (server === undefined) return false;
    await server.end(how);
    await shift.pause(random.pick(AWAY_MS));
    await server.start();
    return true;
  }

  async function stopForAWhile(server: NatsServer): Promise<void> {
    server.signal('SIGSTOP');
    await shift.pause(random.pick(STOPPED_MS));
    server.signal('SIGCONT');
  }

  async function part(server: number): Promise<void> {
    nats.partition(server);
    await shift.pause(random.pick(STOPPED_MS));
    nats.heal();
  }

  async function roll(): Promise<void> {
    for (const server of servers) {
      await server.end('SIGTERM');
      await server.start();
      await nats.healthy();
    }
  }

  async function allAway(pause: () => Promise<void>): Promise<void> {
    await Promise.all(servers.map((server) => server.end('SIGKILL')));
    await pause();
    await Promise.all(servers.map((server) => server.start()));
    await nats.healthy();
  }

  /** A replica begins anew with what the others have. */
  async function wipeOne(): Promise<void> {
    const server = one();
    await server.end('SIGKILL');
    await server.wipe();
    await server.start();
    await nats.healthy();
  }

  /** All that was ever fed is gone. */
  async function wipeAll(): Promise<void> {
    wiped += 1;
    complaints.push(...(await inspect()));
    await allAway(async () => {
      await Promise.all(servers.map((server) => server.wipe()));
    });
    await setUp();
  }

  /** As after a crash of its machine: the end of what was written last is missing. */
  async function truncate(): Promise<boolean> {
    const server = (await leader()) ?? one();
    await server.end('SIGKILL');
    const cut = await cutOff(server.store);
    await server.start();
    await nats.healthy();
    return cut;
  }

  async function cutOff(folder: string): Promise<boolean> {
    const blocks = (await readdir(folder, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && entry.name.endsWith('.blk') && entry.parentPath.includes('streams'))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    const last = blocks.at(-1);
    if (last === undefined) return false;
    const file = await open(last, 'r+');
    const { size } = await file.stat();
    await file.truncate(Math.max(0, size - random.integer(1, MOST_CUT_OFF)));
    await file.close();
    return true;
  }

  /** All servers get back what they had some time ago: what was accepted since is gone. */
  async function restore(): Promise<void> {
    await allAway(() => copyAll(({ store, copy }) => cp(store, copy, { recursive: true })));
    await shift.pause(random.pick(STOPPED_MS));
    await allAway(() =>
      copyAll(async ({ store, copy }) => {
        await rm(store, { recursive: true, force: true });
        await cp(copy, store, { recursive: true });
        await rm(copy, { recursive: true, force: true });
      }),
    );
  }

  async function copyAll(
    act: (folders: { readonly store: string; readonly copy: string }) => Promise<void>,
  ): Promise<void> {
    await Promise.all(servers.map(({ name, store }) => act({ store, copy: join(copies, name) })));
  }

  return {
    where: 'NATS',
    faults: {
      engine: {
        'NATS server killed': inTurn(() => kill(one())),
        'NATS leader killed': inTurn(async () => kill(await leader())),
        'NATS leader rolled': inTurn(async () => kill(await leader(), 'SIGTERM')),
        'NATS server stopped where it stood': () => stopForAWhile(one()),
        'NATS server parted from the others': () => part(random.integer(0, servers.length - 1)),
        'NATS rolled': inTurn(roll),
      },
      stores: {
        'NATS away': inTurn(() => allAway(() => shift.pause(random.pick(LONG_MS)))),
        'store of one server wiped': inTurn(wipeOne),
        'store of the leader truncated': inTurn(truncate),
        'stores put back as they were': inTurn(restore),
        'stores wiped': inTurn(wipeAll),
      },
    },
    heal() {
      for (const server of servers) server.signal('SIGCONT');
      nats.heal();
    },
    async works() {
      await nats.healthy();
      // Routes that were cut come back within a second or so.
      await delay(1_000);
      await nats.healthy();
    },
    complaints,
    figures: () => [['times that all was fed anew', wiped]],
  };
}
