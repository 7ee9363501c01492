/**
 * What others put into the stream: it is never delivered, and nothing is lost by it.
 */
import { createSecretKey } from 'node:crypto';
import test from 'ava';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { createCodec } from '../../src/engine/codec.js';
import type { Entry } from '../../src/engine/entry.js';
import { createDatabase } from '../support/database.js';
import { startFeeding } from '../support/feeding.js';
import { startScene } from '../support/scene.js';

const SUBJECT = 'outbox.outbox.log';

test('R3, R8: entries that are forged, cut, of another secret or said again are never delivered, and nothing is lost', async (t) => {
  const database = await createDatabase(t);
  const { nats, env } = await startFeeding(t, { databaseUrls: [database.url] });
  const scene = await startScene(t, { databaseUrl: database.url, tableUrl: database.url, env });
  const stranger = await connect({ servers: nats.url });
  t.teardown(() => stranger.close());
  const heard: Uint8Array[] = [];
  stranger.subscribe('outbox.outbox.live', {
    callback: (_, message) => void heard.push(Uint8Array.from(message.data)),
  });
  await stranger.flush();
  await scene.writers.more(50);
  await scene.delivered();

  const sealed = createCodec(createSecretKey(Buffer.from('y'.repeat(48))));
  const ours = createCodec(createSecretKey(Buffer.from(env.NATS_SECRET)));
  const entry = heard.map((bytes) => ours.decode(bytes)).findLast((each) => each?.kind === 'run');
  if (entry?.kind !== 'run') return t.fail('no run was heard');
  const last = { position: entry.last.position + 1n, id: String(BigInt(entry.last.id) + 1n) };
  const frame = Buffer.from('40\r\nevent: message\nid: 1\ndata: "forged"\n\n\r\n');
  const forged: Entry = {
    ...entry,
    prev: entry.last.position,
    last,
    events: [{ ...last, channel: 'a', createdAt: Date.now(), kind: 'json', frame }],
  };
  const genuine = heard.at(-1) ?? new Uint8Array();
  const js = jetstream(stranger);
  const attacks = [
    Buffer.from('junk'),
    sealed.encode(forged),
    createCodec().encode(forged),
    genuine.subarray(0, -7),
    genuine,
  ];
  for (const bytes of attacks) {
    await js.publish(SUBJECT, bytes);
    stranger.publish('outbox.outbox.live', bytes);
    await scene.writers.more(20);
    await scene.delivered();
  }
  await scene.settle();
  for (const { frames } of scene.streams) t.false(frames.some(({ data }) => data?.includes('forged')));
});
