/**
 * `prune`: old events are deleted once, or counted.
 */
import { prune, type Outcome } from '../../admin/prune.js';
import { previewPrune, type PrunePreview } from '../../admin/prune-preview.js';
import { commandLine } from '../../command-name.js';
import { readConfig, type Config } from '../../config/config.js';
import { OperatorError } from '../../operator-error.js';
import type { Span } from '../face/command-face.js';
import { withDatabaseVariable } from '../face/errors.js';
import { interruption } from '../face/interruption.js';
import { required } from '../face/required.js';
import { bytes } from '../terminal/numbers.js';
import { isWatched, startProgress } from '../terminal/progress.js';
import { safeJson } from '../terminal/terminal-text.js';

interface PruneCommandOptions {
  readonly keep?: Span;
  readonly dryRun?: true;
  readonly json?: true;
}

/** Interval at which a long run reports how far it is where nobody looks on. */
const REPORT_MS = 10_000;

const OUTCOMES: Readonly<Record<Exclude<Outcome, 'done'>, string>> = {
  'another prunes': 'Another process prunes this outbox, so this one leaves it to that.',
  stopped: 'Stopped: what is left is for the next run.',
};

export async function runPrune({ keep, dryRun, json }: PruneCommandOptions): Promise<void> {
  if (keep === undefined) {
    throw new OperatorError('usage', `How long are events to be kept? As in: ${commandLine('prune --keep 7d')}`);
  }
  const config = readConfig(process.env);
  const url = required(config.retentionDatabaseUrl, {
    lack: 'Neither RETENTION_DATABASE_URL nor DATABASE_URL is set',
    variable: 'RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database',
    example: 'prune --keep 7d',
  });
  if (dryRun) {
    const preview = await withDatabaseVariable(config, url, previewPrune(url, keep.seconds));
    console.log(json ? safeJson({ dryRun, ...preview }) : previewText(preview, keep));
  } else {
    await deleteOld({ url, keep, config, isJson: json ?? false });
  }
}

function previewText({ events, bytes: size, oldest, newest }: PrunePreview, keep: Span): string {
  if (events === 0) return `Nothing to delete: no event is older than ${keep.text}.`;
  const what = `${events.toLocaleString('en')} ${events === 1 ? 'event' : 'events'} older than ${keep.text}`;
  return `Would delete ${what}: ${bytes(size)} of data, from ${oldest ?? ''} to ${newest ?? ''}. Nothing was deleted.`;
}

async function deleteOld({
  url,
  keep,
  config,
  isJson,
}: {
  readonly url: string;
  readonly keep: Span;
  readonly config: Config;
  readonly isJson: boolean;
}): Promise<void> {
  const signal = interruption();
  // Counting takes a while: only for who looks on.
  const total = isWatched() ? (await previewPrune(url, keep.seconds).catch(() => undefined))?.events : undefined;
  const progress = startProgress('Deleting', total);
  let deleted = 0;
  let reportedAt = Date.now();
  const onBatch = (rows: number) => {
    deleted += rows;
    progress.update(deleted);
    if (isWatched() || Date.now() - reportedAt < REPORT_MS) return;
    reportedAt = Date.now();
    console.error(`Deleted ${deleted} so far …`);
  };
  let outcome: Outcome | 'failed' = 'failed';
  try {
    outcome = await withDatabaseVariable(config, url, prune({ url, keepSeconds: keep.seconds, signal, onBatch }));
  } finally {
    progress.end();
    if (isJson) console.log(safeJson({ deleted, outcome }));
    else if (outcome === 'stopped' || outcome === 'another prunes') console.log(OUTCOMES[outcome]);
    if (!isJson && outcome === 'done' && deleted === 0) {
      console.log(`Nothing to delete: no event is older than ${keep.text}.`);
    }
    if (!isJson && deleted > 0) {
      console.log(`Deleted ${deleted} ${deleted === 1 ? 'event' : 'events'} older than ${keep.text}.`);
    }
  }
}
