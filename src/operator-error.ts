/**
 * The failures that an operator can fix. Any room may throw them; the command prints the message
 * alone, without a stack.
 */

/** Who throws which: each message says what to do. */
export type OperatorErrorCode =
  // The command: what was asked for, and what a relay needs before it starts.
  | 'usage'
  | 'bad-input'
  | 'no-database-url'
  | 'not-confirmed'
  | 'no-readers'
  | 'not-migrated'
  | 'newer-database'
  | 'worker-failed'
  | 'no-demo'
  | 'demo-refused'
  | 'database-failed'
  // The environment, and addresses of databases, whose message follows the word "expected".
  | 'bad-environment'
  | 'bad-database-url'
  // The database: where the outbox is, or is to be.
  | 'no-schema'
  | 'no-outbox'
  | 'several-outboxes'
  | 'name-taken'
  | 'standby'
  // Where replays are read from, with NATS: see outbox/proof.ts.
  | 'other-system'
  | 'stale-archive'
  // What is published, and who may.
  | 'event-refused'
  | 'may-not-publish'
  // A relay that is asked over HTTP.
  | 'relay-unreachable'
  | 'relay-refused'
  // Rights on the outbox.
  | 'not-owner'
  | 'may-not-delete'
  | 'may-not-read'
  | 'may-not-create-roles'
  | 'may-not-grant'
  | 'no-role'
  | 'bad-role'
  // NATS: the client, the servers, the stream.
  | 'nats-client-missing'
  | 'nats-failed'
  | 'nats-too-old'
  | 'no-jetstream'
  | 'no-stream'
  | 'unfit-stream'
  | 'other-outbox'
  | 'nats-permissions'
  | 'no-feeder'
  // Tracing.
  | 'tracing-client-missing'
  // Somebody else's lock.
  | 'commit-hangs'
  | 'locked';

/** The message says what to do, and has no secret in it. */
export class OperatorError extends Error {
  override readonly name = 'OperatorError';

  constructor(
    readonly code: OperatorErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Whether an error is of this family; with `code`, of that kind. */
export function isOperatorError(error: unknown, code?: OperatorErrorCode): error is OperatorError {
  return error instanceof OperatorError && (code === undefined || error.code === code);
}
