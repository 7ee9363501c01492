/**
 * Who feeds: whether feeders are heard, by their beats. Silence is noticed end to end, whatever keeps
 * the beats from arriving.
 *
 * | state     | meaning                                              | leaves when                          |
 * |-----------|------------------------------------------------------|--------------------------------------|
 * | unknown   | just begun                                           | a beat arrives, or none does (silent)|
 * | listening | a feeder says that it hears of redactions, and feeds | none has said so for a while (silent)|
 * | silent    | nobody says so: what is in memory may be outdated    | a feeder says so (listening)         |
 * | stopped   | -                                                    | never                                |
 */
import type { Beat, EngineReader } from './engine-log.js';

export interface FeederWatch {
  readonly isHeard: boolean;
  /** Since when nobody feeds; undefined: somebody does, or it is not known yet. */
  readonly silentSince: Date | undefined;
  /** Age of the newest beat of a feeder that listens; undefined: there was none. */
  readonly beatAgeSeconds: number | undefined;
  stop(): void;
}

export interface FeederWatchOptions {
  readonly reader: Pick<EngineReader, 'beats'>;
  onBeat(beat: Beat): void;
  /** Called at each change, and the first time that it is known. */
  onHeard(isHeard: boolean): void;
  /** Called again and again while it is silent. */
  onSilence(): void;
}

/** Feeders send a beat each second. */
const SILENCE_MS = 5000;
const LOOK_MS = 500;

export function watchFeeders({ reader, onBeat, onHeard, onSilence }: FeederWatchOptions): FeederWatch {
  let beatAt: number | undefined;
  let lookedAt = performance.now();
  /** When it was begun, or this process went on after it had stood still. */
  let awakeSince = lookedAt;
  let silentSince: Date | undefined;
  let isHeard: boolean | undefined;

  function set(heard: boolean): void {
    silentSince = heard ? undefined : (silentSince ?? new Date(Date.now() - SILENCE_MS));
    if (isHeard === heard) return;
    isHeard = heard;
    onHeard(heard);
  }

  const unsubscribe = reader.beats((beat) => {
    if (beat.isListening) {
      beatAt = performance.now();
      set(true);
    }
    onBeat(beat);
  });

  const looking = setInterval(() => {
    const now = performance.now();
    // Beats that came meanwhile are yet to be looked at.
    if (now - lookedAt > SILENCE_MS / 2) awakeSince = now;
    lookedAt = now;
    if (now - Math.max(beatAt ?? 0, awakeSince) <= SILENCE_MS) return;
    set(false);
    onSilence();
  }, LOOK_MS);

  return {
    get isHeard() {
      return isHeard === true;
    },
    get silentSince() {
      return silentSince;
    },
    get beatAgeSeconds() {
      return beatAt === undefined ? undefined : (performance.now() - beatAt) / 1000;
    },
    stop() {
      clearInterval(looking);
      unsubscribe();
    },
  };
}
