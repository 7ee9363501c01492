/**
 * `top`: how it is called.
 */
import { Option } from 'commander';
import { lazily, span, type Add } from '../face/command-face.js';

export function addTop(add: Add): void {
  add({
    name: 'top',
    summary: 'watch a relay at work',
    description:
      'Shows how much a relay delivers, how far behind it is, its connections and why it refused some: live on a terminal, ' +
      'until q or Ctrl-C, and once where there is none. On METRICS_PORT it also shows channels by their connections, and the ' +
      'connections that are furthest behind; with PUBLIC_METRICS=true it reads the metrics on PORT. A relay that is away is ' +
      'waited for.',
    environment: ['HOST', 'PORT', 'METRICS_PORT', 'PUBLIC_METRICS'],
    example: 'METRICS_PORT=9100 outbox-relay top --interval 2s',
  })
    .option('--url <address>', 'address that /metrics is at (default: that of METRICS_PORT, else of PORT)')
    .addOption(new Option('--interval <span>', 'how often to look').argParser(span).default(span('1s'), '1s'))
    .option('--once', 'look twice, print the figures of the time between, and end')
    .option('--json', 'print an object for each interval, a line each')
    .action(lazily(async () => (await import('../top/top.js')).runTop));
}
