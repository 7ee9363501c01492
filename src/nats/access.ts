/**
 * Access: which subjects feeders and relays have to be allowed, and whether this connection is.
 */
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import type { NatsLog } from './nats-log.js';
import { subjectsOf } from './subjects.js';

export type Party = 'feeder' | 'relay';

interface Allowed {
  /** Each with what is sent to find out, which has no effect. */
  readonly publish: readonly { readonly subject: string; readonly harmless: string; readonly expecting?: string }[];
  readonly subscribe: readonly string[];
}

/** A sequence that no stream has: nothing is appended after it. */
const NEVER = String(2 ** 53);

function allowedOf(party: Party, stream: string): Allowed {
  const { log, live, beat, ask, anyQuestion } = subjectsOf(stream);
  const api = (name: string, harmless: string) => ({ subject: `$JS.API.${name}.${stream}`, harmless });
  const reads = [api('STREAM.INFO', ''), api('STREAM.MSG.GET', '{"seq":1}'), api('DIRECT.GET', '{"seq":1}')];
  if (party === 'relay') {
    return { publish: [...reads, { subject: ask('history'), harmless: '' }], subscribe: [live, beat] };
  }
  return {
    publish: [
      ...reads,
      // From before the first message on.
      api('STREAM.PURGE', '{"seq":1}'),
      api('STREAM.MSG.DELETE', '{"seq":0}'),
      { subject: log, harmless: '', expecting: NEVER },
      { subject: beat, harmless: '' },
    ],
    subscribe: [anyQuestion],
  };
}

/**
 * Whether the user of this connection may do what its part is.
 *
 * @throws OperatorError `nats-permissions`, with each subject that is refused
 */
export async function requireAccess({ connection, stream }: NatsLog, party: Party): Promise<void> {
  const { nats, modules } = connection;
  const refused = new Set<string>();
  const statuses = nats.status();
  const watching = (async () => {
    for await (const status of statuses) {
      if (status.type !== 'error') continue;
      const { error } = status;
      if (error instanceof modules.transport.errors.PermissionViolationError) {
        refused.add(`${error.operation === 'publish' ? 'publish to' : 'subscribe to'} ${error.subject}`);
      }
    }
  })();
  const { publish, subscribe } = allowedOf(party, stream);
  const inbox = modules.transport.createInbox();
  // A refusal comes before the answer to a flush.
  const listening = [inbox, ...subscribe].map((subject) => nats.subscribe(subject, { callback: () => undefined }));
  for (const { subject, harmless, expecting } of publish) {
    const headers = modules.transport.headers();
    if (expecting !== undefined) headers.set('Nats-Expected-Last-Sequence', expecting);
    const isQuestion = subject.startsWith('$JS.API.');
    nats.publish(subject, harmless, {
      ...(isQuestion ? { reply: inbox } : {}),
      ...(expecting === undefined ? {} : { headers, reply: inbox }),
    });
  }
  await nats.flush();
  await new Promise((resolve) => setImmediate(resolve));
  for (const subscription of listening) subscription.unsubscribe();
  (statuses as { stop?: () => void }).stop?.();
  void watching;
  if (refused.size === 0) return;
  throw new OperatorError(
    'nats-permissions',
    `NATS refuses this ${party} what it needs:\n${[...refused].map((what) => `  ${what}`).join('\n')}\n` +
      `Give its user these permissions in nats.conf, or run ${commandLine('feed --setup')} to see those of both:\n` +
      permissionsText(party, stream),
  );
}

/** As a user has it in nats.conf. */
export function permissionsText(party: Party, stream: string): string {
  const { publish, subscribe } = allowedOf(party, stream);
  const questions = subjectsOf(stream);
  const subjects = publish.map(({ subject }) =>
    subject === questions.ask('history') ? questions.anyQuestion : subject,
  );
  const list = (items: readonly string[]) => items.map((item) => `"${item}"`).join(', ');
  return [
    'permissions: {',
    `  publish: { allow: [${list(subjects)}] }`,
    `  subscribe: { allow: [${list([...subscribe, '_INBOX.>'])}] }`,
    ...(party === 'feeder' ? ['  allow_responses: true'] : []),
    '}',
  ].join('\n');
}
