/**
 * Checks of the stream in NATS, where relays read from one: the servers, the stream, the permissions
 * of a relay, and whether anybody feeds it. It changes nothing there either.
 */
import { pino } from 'pino';
import { commandLine } from '../../command-name.js';
import type { Beat } from '../../engine/engine-log.js';
import { through } from '../../engine/entry.js';
import { requireAccess } from '../../nats/access.js';
import { openNatsLog, type NatsLog, type NatsLogSettings } from '../../nats/nats-log.js';
import { misfitsOf, readStream, streamText } from '../../nats/stream.js';
import { isOperatorError } from '../../operator-error.js';
import { ok, type Finding, type Result } from './finding.js';

/** Feeders beat each second. */
const BEAT_WITHIN_MS = 3000;

const WHY_UNFED = 'relays with NATS_URL deliver nothing that is new, and no stream starts there';

/** What relays with these settings find in NATS. */
export async function examineStream(settings: NatsLogSettings): Promise<Result> {
  return { check: 'stream', findings: await findingsOf(settings) };
}

async function findingsOf(settings: NatsLogSettings): Promise<Finding[]> {
  let log: NatsLog | undefined;
  try {
    log = await openNatsLog(settings, 'outbox-relay doctor', pino({ level: 'silent' }));
    await requireAccess(log, 'relay');
    return await look(log);
  } catch (error) {
    if (!isOperatorError(error)) throw error;
    const [what = '', ...more] = error.message.split('\n');
    return [{ level: 'error', what, why: WHY_UNFED, ...(more.length > 0 ? { fix: { advice: more.join(' ') } } : {}) }];
  } finally {
    await log?.close();
  }
}

async function look(log: NatsLog): Promise<Finding[]> {
  const info = await readStream(log);
  if (info === undefined) {
    const fix = { as: 'the user of feeders', command: commandLine('feed --setup') };
    return [{ level: 'error', what: `NATS has no stream ${log.stream}`, why: WHY_UNFED, fix }];
  }
  const misfits = misfitsOf(info, log).map(({ what, fix }): Finding => ({
    level: 'error',
    what: `the stream ${log.stream} does not fit: ${what}`,
    why: 'feeders and relays do not start with it',
    fix:
      fix === undefined
        ? { advice: `make it anew: nats stream rm ${log.stream}, and then ${commandLine('feed --setup')}` }
        : { as: 'an administrator of NATS', command: fix },
  }));
  if (misfits.length > 0) return misfits;
  return [ok(`${log.stream}: ${streamText(info)}`), ...(await lookAtEnd(log)), await lookForFeeder(log)];
}

async function lookAtEnd(log: NatsLog): Promise<Finding[]> {
  const { entry, unreadable } = await log.tip();
  if (unreadable === 0) return entry ? [ok(`it leads through event ${through(entry).id}`)] : [];
  return [
    {
      level: 'error',
      what: `the last ${unreadable} entries of the stream cannot be read`,
      why: 'they were cut or forged, or sealed with another NATS_SECRET, or come from another version. Relays pass them by',
      fix: {
        advice:
          'see that NATS_SECRET and the version are the same for all feeders and relays, and who else may publish',
      },
    },
  ];
}

async function lookForFeeder(log: NatsLog): Promise<Finding> {
  const beats: Beat[] = [];
  await new Promise<void>((resolve) => {
    const late = setTimeout(resolve, BEAT_WITHIN_MS);
    log.beats((beat) => {
      beats.push(beat);
      if (!beat.isListening) return;
      clearTimeout(late);
      resolve();
    });
  });
  if (beats.some(({ isListening }) => isListening)) return ok('a feeder feeds it');
  return {
    level: 'error',
    what: beats.length > 0 ? 'feeders are there, and none of them can feed' : 'no feeder is there',
    why: WHY_UNFED,
    fix: {
      advice:
        beats.length > 0
          ? 'see the log of a feeder, or /readyz on its METRICS_PORT, for what keeps it'
          : `run ${commandLine('feed')}, two or more of them`,
    },
  };
}
