/**
 * A bar on standard error that shows how far a long work is; on a terminal only, where it can be
 * drawn over.
 */
import { grouped } from './numbers.js';

export interface Progress {
  /** @param done of `total`, or of what is not known */
  update(done: number): void;
  /** Takes the bar away. Safe to call twice. */
  end(): void;
}

const WIDTH = 24;
/** Shortest pause between two drawings. */
const PAUSE_MS = 100;
/** ECMA-48: to the start of the line, and nothing behind it. */
const CLEAR = '\r\u001b[K';

/** Whether there is somebody to look. */
export const isWatched = (): boolean => process.stderr.isTTY && process.env['TERM'] !== 'dumb';

/**
 * @param verb as in `Deleting`
 * @param total undefined: not known
 */
export function startProgress(verb: string, total: number | undefined): Progress {
  const startedAt = performance.now();
  let drawnAt = -Infinity;
  let isDrawn = false;
  return {
    update(done) {
      const now = performance.now();
      if (!isWatched() || now - drawnAt < PAUSE_MS) return;
      drawnAt = now;
      isDrawn = true;
      const columns = process.stderr.columns || 80;
      process.stderr.write(CLEAR + progressText(verb, done, total, (now - startedAt) / 1000).slice(0, columns - 1));
    },
    end() {
      if (isDrawn) process.stderr.write(CLEAR);
      isDrawn = false;
    },
  };
}

/** @param seconds that it has taken */
export function progressText(verb: string, done: number, total: number | undefined, seconds: number): string {
  if (total === undefined || total === 0) return `${verb} ${grouped(done)} …`;
  const part = Math.min(1, done / total);
  const bar = '#'.repeat(Math.floor(part * WIDTH)).padEnd(WIDTH, '-');
  const left = part > 0 && part < 1 ? `, ${spanText((seconds * (1 - part)) / part)} left` : '';
  return `${verb} [${bar}] ${Math.floor(part * 100)} %  ${grouped(done)} of ${grouped(total)}${left}`;
}

function spanText(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  return seconds < 3600 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
