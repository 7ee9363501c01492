/**
 * `explain`: how it is called.
 */
import { lazily, several, type Add } from '../face/command-face.js';

export function addExplain(add: Add): void {
  add({
    name: 'explain',
    summary: 'say why an event, a token or an address works or does not',
    description:
      "Takes an event's id, a token, or the address of a stream (or its path alone), and says step by step what happens: " +
      'to the event, whether it is committed, placed and there for readers; of the token, what it opens, and why not; to ' +
      "the request, what the relay's own code makes of it with these settings, and what the address really answers. It " +
      'changes nothing, and exits with 1 where a step says no. Run it with the settings of the relay.',
    environment: [
      'DATABASE_URL',
      'HOST',
      'PORT',
      'METRICS_PORT',
      'PUBLIC_CHANNELS',
      'JWT_SECRET',
      'JWT_PUBLIC_KEY',
      'JWKS_URL',
      'FORWARD_AUTH_URL',
    ],
    example: "outbox-relay explain '/events?channel=orders' --token eyJ…",
  })
    .argument('<what>', 'an id, a token, an address or a path; - reads a token from standard input')
    .option('--channel <channel>', 'of a token: whether it opens this channel; may be repeated', several)
    .option('--token <token>', 'of an address or an event: the token to ask with (or OUTBOX_TOKEN)')
    .option(
      '--header <line>',
      'of an address: a header that the client sends, as in "Origin: https://…"; may be repeated',
      several,
    )
    .option('--no-request', 'of an address: do not ask it')
    .option('--url <address>', 'of an event: the relay to be asked for it (default: http://HOST:PORT)')
    .option('--json', 'print the steps as JSON')
    .action(lazily(async () => (await import('../explain/explain.js')).runExplain));
}
