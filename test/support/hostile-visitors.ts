/**
 * Hostile visitors: whoever reaches a port of a relay, and a role that may connect to its database and do nothing else. Each does one
 * thing for a while and then another, and nobody else is to notice.
 */
import { setMaxListeners } from 'node:events';
import type { Attack } from './attacks/attack.js';
import { BY_REQUEST } from './attacks/by-request.js';
import { RESUMES_ANYWHERE, SLOW_READERS_OF_ALL } from './attacks/by-resume.js';
import { BY_STRANGER } from './attacks/by-session.js';
import type { TestDatabase } from './database.js';
import type { Actor, Stage } from './actor.js';

/** An advisory lock on a key of ours stops all publishers for as long as placing takes a lock, so no stranger tries that. */
const ATTACKS: readonly Attack[] = [...BY_REQUEST, ...RESUMES_ANYWHERE, SLOW_READERS_OF_ALL, ...BY_STRANGER];
const ATTACKERS = 3;
const LASTS_MS = [500, 4_000] as const;
const PAUSE_MS = [100, 2_000] as const;

const STRANGER = { name: 'chaos_stranger', password: 'stranger' };

/** Makes the role; resolves with the address by which it connects. */
export async function makeStranger(database: Pick<TestDatabase, 'query' | 'url'>): Promise<string> {
  await database.query(`CREATE ROLE ${STRANGER.name} LOGIN PASSWORD '${STRANGER.password}'`);
  const url = new URL(database.url);
  url.username = STRANGER.name;
  url.password = STRANGER.password;
  return url.href;
}

/** One gang. @param strangerUrl as from `makeStranger` */
export function createHostileVisitors(strangerUrl: string): Actor {
  return { run: (stage) => visit(stage, strangerUrl), complaints: [], figures: () => [] };
}

/** Resolves when the shift is over and all have let go. */
async function visit({ relays, url: databaseUrl, random, shift, faults }: Stage, strangerUrl: string): Promise<void> {
  let deck: Attack[] = [];
  for (await shift.pause(random.integer(...PAUSE_MS)); shift.isOn; await shift.pause(random.integer(...PAUSE_MS))) {
    if (deck.length === 0) deck = random.sample(ATTACKS, ATTACKS.length);
    const attack = deck.pop();
    const [relay] = random.sample(relays, 1);
    if (attack === undefined || relay === undefined) return;
    const retreat = new AbortController();
    setMaxListeners(0, retreat.signal);
    const scene = {
      url: relay.urls[0],
      metricsUrl: relay.metricsUrl,
      databaseUrl,
      strangerUrl,
      random,
      signal: retreat.signal,
      noted: {},
      note: () => undefined,
      count: () => undefined,
    };
    const over = faults.attacked(attack.name);
    const loops = Array.from({ length: ATTACKERS }, (_, n) =>
      // Its session is lost when the server is killed: that is what happens to strangers.
      attack.loop({ ...scene, address: `127.0.1.${n + 1}` }, n).catch(() => undefined),
    );
    await shift.pause(random.integer(...LASTS_MS));
    retreat.abort();
    await Promise.all(loops);
    over();
  }
}
