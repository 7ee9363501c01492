/**
 * `stats`: how it is called.
 */
import { lazily, type Add } from '../face/command-face.js';

export function addStats(add: Add): void {
  add({
    name: 'stats',
    summary: 'say what is in the outbox: events, bytes, channels, how many a minute',
    description:
      'Counts what is in the outbox table, with the right to SELECT and at a bounded cost: beyond a million rows it takes ' +
      "PostgreSQL's own estimate, and looks for what is large and busy among the newest 100,000.",
    environment: ['DATABASE_URL'],
    example: 'DATABASE_URL=postgres://outbox_relay:password@host:5432/database outbox-relay stats',
  })
    .option('--json', 'print the figures as JSON')
    .action(lazily(async () => (await import('../commands/stats.js')).runStats));
}
