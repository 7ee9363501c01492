/**
 * What `feed --setup` does: makes the stream that is fed, or checks one that is there, and prints
 * what is to be changed, and the permissions that feeders and relays need.
 */
import { pino } from 'pino';
import { permissionsText } from '../../nats/access.js';
import { openNatsLog, type NatsLogSettings } from '../../nats/nats-log.js';
import { makeStream, misfitsOf, readStream, STREAM_DEFAULTS, streamText, unfitText } from '../../nats/stream.js';
import { OperatorError } from '../../operator-error.js';
import type { Span } from '../face/command-face.js';
import { safeJson } from '../terminal/terminal-text.js';

export interface SetupOptions {
  readonly replicas?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly maxAge?: Span | undefined;
  readonly json?: true;
}

/** What was asked for and is otherwise. Ages are in seconds. */
interface Difference {
  readonly option: string;
  readonly has: number;
  readonly wanted: number;
  readonly todo: string;
}

type StreamConfig = { readonly num_replicas: number; readonly max_bytes: number; readonly max_age: number };

const NANOSECONDS = 1e9;

/** @throws OperatorError `nats-…`, `unfit-stream` */
export async function setUpStream(nats: NatsLogSettings, options: SetupOptions): Promise<void> {
  const { replicas, maxBytes, maxAge, json } = options;
  const { stream } = nats;
  const log = await openNatsLog(nats, 'outbox-relay feed --setup', pino({ level: 'silent' }));
  try {
    const wanted = {
      replicas: replicas ?? STREAM_DEFAULTS.replicas,
      maxBytes: maxBytes ?? STREAM_DEFAULTS.maxBytes,
      maxAgeSeconds: maxAge?.seconds ?? STREAM_DEFAULTS.maxAgeSeconds,
    };
    const found = await readStream(log);
    const info = found ?? (await makeStream(log, wanted));
    const misfits = misfitsOf(info, log);
    if (misfits.length > 0) throw new OperatorError('unfit-stream', unfitText(stream, misfits));
    const differing = differences(stream, info.config, options);
    const permissions = (['feeder', 'relay'] as const).map((user) => ({ user, text: permissionsText(user, stream) }));
    if (json) {
      const { num_replicas: copies, max_bytes, max_age, storage } = info.config;
      const kept = { maxBytes: max_bytes, maxAgeSeconds: max_age / NANOSECONDS };
      const { messages } = info.state;
      console.log(safeJson({ step: 'stream', stream, made: !found, replicas: copies, storage, ...kept, messages }));
      for (const difference of differing) console.log(safeJson({ step: 'differs', ...difference }));
      for (const permission of permissions) console.log(safeJson({ step: 'permissions', ...permission }));
      return;
    }
    console.log(`${found ? 'found' : 'made'} the stream ${stream}: ${streamText(info)}`);
    for (const difference of differing) console.log(differenceText(difference));
    console.log('\nWhere users of NATS have permissions, in nats.conf, for the user of feeders:');
    console.log(permissions[0]?.text);
    console.log('\nand for that of relays:');
    console.log(permissions[1]?.text);
  } finally {
    await log.close();
  }
}

function differences(stream: string, config: StreamConfig, { replicas, maxBytes, maxAge }: SetupOptions): Difference[] {
  const all = [
    { option: '--replicas', has: config.num_replicas, wanted: replicas, unit: '' },
    { option: '--max-bytes', has: config.max_bytes, wanted: maxBytes, unit: '' },
    { option: '--max-age', has: config.max_age / NANOSECONDS, wanted: maxAge?.seconds, unit: 's' },
  ];
  return all.flatMap(({ option, has, wanted, unit }) =>
    wanted === undefined || wanted === has
      ? []
      : [{ option, has, wanted, todo: `nats stream edit ${stream} ${option} ${wanted}${unit}` }],
  );
}

function differenceText({ option, has, wanted, todo }: Difference): string {
  const change = `and not ${wanted}; to change it: ${todo}`;
  if (option === '--replicas') return `It has ${has} copies, ${change}`;
  if (option === '--max-bytes') return `It keeps ${has} bytes, ${change}`;
  return `It keeps messages for ${has} seconds, ${change}`;
}
