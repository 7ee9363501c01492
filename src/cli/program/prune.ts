/**
 * `prune`: how it is called.
 */
import { Option } from 'commander';
import { SPAN_FORM } from '../../config/duration.js';
import { lazily, span, type Add } from '../face/command-face.js';

export function addPrune(add: Add): void {
  add({
    name: 'prune',
    summary: 'delete events that are older than a given age, once',
    description:
      'Deletes old events in small batches, beside publishers and relays. Where RETENTION is set a relay does it by itself.',
    environment: ['RETENTION_DATABASE_URL'],
    example:
      'RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database outbox-relay prune --keep 7d',
  })
    .addOption(new Option('--keep <age>', `age from which events are deleted: ${SPAN_FORM}`).argParser(span))
    .option('--dry-run', 'count what would be deleted, and delete nothing')
    .option('--json', 'print what was deleted, or would be, as JSON')
    .action(lazily(async () => (await import('../commands/prune.js')).runPrune));
}
