/**
 * Pages that are loaded while others publish: each takes its cursor, in one form or the other, reads a table, and streams what
 * follows. What its snapshot showed and what its stream brought is compared with the table.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type pg from 'pg';
import type { TestDatabase } from './database.js';
import { randomOf, type Random } from './random.js';
import { connect, single } from './sessions.js';
import { openStream, type Frame } from './stream.js';

export type Form = 'first' | 'exact';

export interface PageLoadOptions {
  readonly database: TestDatabase;
  /** Base addresses of relays; each stream and each reconnect takes another. */
  readonly relays: readonly [string, ...string[]];
  readonly seed: number;
  readonly writers: number;
  readonly readers: number;
  /** How many pages are loaded, altogether. */
  readonly loads: number;
}

export interface PageLoadFigures {
  readonly loads: Record<Form, number>;
  /** What was in neither page nor stream. */
  readonly missed: Record<Form, number>;
  /** What was in both. */
  readonly doubled: Record<Form, number>;
  /** What a stream brought twice, or did not have to bring. */
  readonly strange: number;
  readonly published: number;
  readonly aborted: number;
  /** Cursors that left something out, and all that they left out. */
  readonly excluding: number;
  readonly excluded: number;
  /** Streams that were cut off where their cursor still left something out. */
  readonly cutExcluding: number;
  readonly resets: number;
}

/** Time between two marks: events at which streams end that began before. */
const MARK_EVERY_MS = 150;
const CHANNELS = ['a', 'b:1', 'b:2'] as const;
const SUBSCRIPTIONS = ['channel=a&channel=b:1&channel=b:2', 'channel=*', 'channel=a&channel=b:*'] as const;
const LONGEST_COMMIT_MS = 12;
const LONGEST_PAUSE_MS = 8;
/** Some commits take longer than pages do, so that who went by what is visible would pass them by. */
const LONGEST_HANG_MS = 80;
const HANGS = 0.2;
const ABORTED = 0.1;

/**
 * What an application shows, and triggers of its that sleep and fail within COMMIT: before positions are drawn, and after. The
 * second is deferred by one more round, so that it comes after placing.
 */
const SCHEMA = `
  CREATE TABLE thing (id bigint PRIMARY KEY);
  CREATE TABLE slow (early float, late float, fails boolean, is_second boolean DEFAULT false);
  CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.is_second THEN
      PERFORM pg_sleep(NEW.late / 1000);
      IF NEW.fails THEN RAISE 'aborted'; END IF;
    ELSE
      PERFORM pg_sleep(NEW.early / 1000);
      INSERT INTO slow VALUES (NEW.early, NEW.late, NEW.fails, true);
    END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER be_slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION be_slow()`;

const idOf = ({ id = '' }: Frame) => id.split('!')[0] ?? '';
const pause = (random: Random) => (random.chance(0.5) ? delay(random.integer(1, LONGEST_PAUSE_MS)) : undefined);

interface Load {
  readonly form: Form;
  readonly cursor: string;
  readonly shown: ReadonlySet<string>;
  readonly streamed: Promise<Streamed>;
}

interface Streamed {
  /** As they came. */
  readonly ids: readonly string[];
  /** Id of the mark at which it ended. */
  readonly mark: string;
}

export async function loadPages(t: ExecutionContext, options: PageLoadOptions): Promise<PageLoadFigures> {
  const { database, relays, seed, loads: most } = options;
  await database.query(SCHEMA);
  let isWriting = true;
  let marks = 0;
  let aborted = 0;
  let cutExcluding = 0;
  let resets = 0;
  const loads: Load[] = [];

  async function write(writer: number): Promise<void> {
    const random = randomOf(seed, `writer ${writer}`);
    const client = await connect(t, database.url);
    while (isWriting) {
      try {
        await client.query('BEGIN');
        const events = random.chance(0.2) ? random.integer(1, 20) : 1;
        await client.query(
          `WITH published AS (INSERT INTO outbox (channel, data) SELECT $1, 'null' FROM generate_series(1, $2) RETURNING id)
           INSERT INTO thing SELECT id FROM published`,
          [random.pick(CHANNELS), events],
        );
        if (random.chance(0.3)) await pause(random);
        await client.query('INSERT INTO slow VALUES ($1, $2, $3)', [
          random.integer(0, LONGEST_COMMIT_MS),
          random.integer(0, random.chance(HANGS) ? LONGEST_HANG_MS : LONGEST_COMMIT_MS),
          random.chance(ABORTED),
        ]);
        await client.query('COMMIT');
      } catch (error) {
        if (!String(error).includes('aborted')) throw error;
        aborted += 1;
        await client.query('ROLLBACK');
      }
    }
  }

  async function read(reader: number): Promise<void> {
    const random = randomOf(seed, `reader ${reader}`);
    const client = await connect(t, database.url);
    for (let left = most / options.readers; left > 0; left -= 1) {
      const form: Form = random.chance(0.3) ? 'first' : 'exact';
      const { cursor, shown } = await (form === 'exact' ? exactPage(client, random) : firstPage(client, random));
      await pause(random);
      loads.push({ form, cursor, shown, streamed: stream(cursor, marks, randomOf(seed, `stream ${reader} ${left}`)) });
    }
  }

  async function firstPage(client: pg.Client, random: Random): Promise<Pick<Load, 'cursor' | 'shown'>> {
    const { cursor } = await single<{ cursor: string }>(client, 'SELECT outbox_cursor() AS cursor');
    await pause(random);
    return { cursor, shown: await things(client) };
  }

  async function exactPage(client: pg.Client, random: Random): Promise<Pick<Load, 'cursor' | 'shown'>> {
    const { after } = await single<{ after: string }>(client, 'SELECT outbox_cursor() AS after');
    await pause(random);
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const isFirst = random.chance(0.5);
    const before = isFirst ? await things(client) : undefined;
    await pause(random);
    const { cursor } = await single<{ cursor: string }>(client, 'SELECT outbox_cursor($1) AS cursor', [after]);
    const shown = before ?? (await things(client));
    await client.query('COMMIT');
    return { cursor, shown };
  }

  async function things(client: pg.Client): Promise<ReadonlySet<string>> {
    const { rows } = await client.query<{ id: string }>('SELECT id FROM thing');
    return new Set(rows.map(({ id }) => id));
  }

  async function mark(): Promise<void> {
    while (isWriting) {
      marks += 1;
      await database.query("INSERT INTO outbox (channel, event, data) VALUES ('end', 'end', $1)", [marks]);
      await delay(MARK_EVERY_MS);
    }
  }

  /** Reads up to a mark that was begun later, and is cut off now and then. */
  async function stream(from: string, marksBefore: number, random: Random): Promise<Streamed> {
    const ids: string[] = [];
    const channels = random.pick(SUBSCRIPTIONS);
    const isEnd = ({ event, data }: Frame) => event === 'end' && Number(data) > marksBefore;
    for (let cursor = from; ;) {
      const isCut = random.chance(0.7);
      const inQuery = random.chance(0.5);
      const client = await openStream(
        t,
        `${random.pick(relays)}/events?${channels}&channel=end${inQuery ? `&last_event_id=${cursor}` : ''}`,
        inQuery ? {} : { 'Last-Event-ID': cursor },
      );
      let left = isCut ? random.integer(1, 6) : Infinity;
      let end: Frame | undefined;
      // Of what has come, as much as came before the cut.
      for (let n = 0; left > 0 && end === undefined; n += 1, left -= 1) {
        while (client.frames[n] === undefined) await client.more();
        const frame = client.frames[n] as Frame;
        const { id = cursor, event, data } = frame;
        cursor = id;
        if (event === 'stream-reset') resets += 1;
        if (data !== undefined && event === undefined) ids.push(idOf(frame));
        if (isEnd(frame)) end = frame;
      }
      client.close();
      if (end) return { ids, mark: idOf(end) };
      if (cursor.includes('!')) cutExcluding += 1;
    }
  }

  const writing = Promise.all(Array.from({ length: options.writers }, (_, n) => write(n)));
  const marking = mark();
  await Promise.all(Array.from({ length: options.readers }, (_, n) => read(n)));
  await Promise.all(loads.map(({ streamed }) => streamed));
  isWriting = false;
  await Promise.all([writing, marking]);

  const { rows } = await database.query<{ id: string; position: string; isThing: boolean }>(
    `SELECT id, position, EXISTS (SELECT FROM thing WHERE thing.id = outbox.id) AS "isThing" FROM outbox`,
  );
  const positions = new Map(rows.map(({ id, position }) => [id, Number(position)]));
  const all = rows.filter(({ isThing }) => isThing).map(({ id }) => id);
  const figures = {
    loads: { first: 0, exact: 0 },
    missed: { first: 0, exact: 0 },
    doubled: { first: 0, exact: 0 },
    strange: 0,
    excluding: 0,
    excluded: 0,
  };
  for (const { form, cursor, shown, streamed } of loads) {
    const { ids, mark } = await streamed;
    const came = new Set(ids);
    const end = positions.get(mark) ?? 0;
    figures.loads[form] += 1;
    figures.strange += ids.length - came.size;
    for (const id of all) {
      if ((positions.get(id) ?? 0) > end) continue;
      if (!shown.has(id) && !came.delete(id)) figures.missed[form] += 1;
      else if (shown.has(id) && came.delete(id)) figures.doubled[form] += 1;
    }
    figures.strange += came.size;
    const [, list] = cursor.split('!');
    if (list === undefined) continue;
    figures.excluding += 1;
    for (const item of list.split(',')) {
      const [low = '', high = low] = item.split('-');
      figures.excluded += Number(high) - Number(low) + 1;
    }
  }
  return { ...figures, published: all.length, aborted, cutExcluding, resets };
}

/** For the log of a test. */
export function describeLoads(figures: PageLoadFigures): string {
  const { loads, missed, doubled, published, aborted, excluding, excluded, cutExcluding } = figures;
  return (
    `${loads.first} and ${loads.exact} exact pages, ${published} events, ${aborted} aborted: ${missed.first} and ${missed.exact} missed, ` +
    `${doubled.first} and ${doubled.exact} doubled; ${excluding} cursors left out ${excluded}, ${cutExcluding} cuts while they did`
  );
}
