/**
 * Publishing as an application does it: each event is an INSERT of its own, and committed when it
 * is told of.
 */
import pg from 'pg';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import { withSession } from '../postgres/client.js';
import type { Session } from '../postgres/session.js';

export interface Publication {
  readonly channel: string;
  readonly event: string;
  /** JSON. */
  readonly data: string;
  /** The span that it is published within. Default: none. */
  readonly traceparent?: string | undefined;
}

export interface Publisher {
  /** Whether the role may say which span an event is published within. */
  readonly mayTrace: boolean;
  /**
   * Resolves once it is committed, with its id, or with undefined where the role may not read that.
   *
   * @throws OperatorError `event-refused` where the event breaks a rule of the table; else what the
   * connection throws
   */
  publish(publication: Publication): Promise<string | undefined>;
}

/** Classes of SQLSTATE that are about the values: data exceptions, and constraints. */
const OF_VALUES = /^(22|23)/;

/** @throws OperatorError `may-not-publish`, `no-outbox`; else what the connection and `use` throw */
export async function withPublisher<T>(url: string, use: (publisher: Publisher) => Promise<T>): Promise<T> {
  return withSession(url, 'outbox-relay publish', async (session) => {
    const { read, trace } = await rightsIn(session);
    const returning = read ? ' RETURNING id' : '';
    return use({
      mayTrace: trace,
      async publish({ channel, event, data, traceparent }) {
        const insert =
          traceparent === undefined
            ? 'INSERT INTO here.outbox (channel, event, data) VALUES ($1, $2, $3::jsonb)'
            : 'INSERT INTO here.outbox (channel, event, data, traceparent) VALUES ($1, $2, $3::jsonb, $4)';
        const values = [channel, event, data, ...(traceparent === undefined ? [] : [traceparent])];
        try {
          const { rows } = await session.query<{ id: string }>(`${insert}${returning}`, values);
          return rows[0]?.id;
        } catch (error) {
          if (!(error instanceof pg.DatabaseError && OF_VALUES.test(error.code ?? ''))) throw error;
          const more = [error.detail, error.hint].filter(Boolean).join(' ');
          throw new OperatorError(
            'event-refused',
            `PostgreSQL refused the event: ${error.message}. ${more}`.trimEnd(),
            {
              cause: error,
            },
          );
        }
      },
    });
  });
}

interface Rights {
  /** The ids of what it publishes. */
  readonly read: boolean;
  /** The span that an event is published within. */
  readonly trace: boolean;
}

/** What it may do beside publishing. @throws OperatorError `may-not-publish` */
async function rightsIn(session: Session): Promise<Rights> {
  const { rows } = await session.query<{ role: string; schema: boolean; publish: boolean } & Rights>(
    `SELECT current_user AS role, has_schema_privilege(relnamespace, 'USAGE') AS schema,
       has_column_privilege(oid, 'channel', 'INSERT') AND has_column_privilege(oid, 'event', 'INSERT')
         AND has_column_privilege(oid, 'data', 'INSERT') AS publish,
       has_column_privilege(oid, 'id', 'SELECT') AS read, has_column_privilege(oid, 'traceparent', 'INSERT') AS trace
     FROM pg_class WHERE relname = 'outbox' AND relnamespace = $1::text::regnamespace`,
    [session.schema === undefined ? 'pg_catalog' : pg.escapeIdentifier(session.schema)],
  );
  const [found] = rows;
  if (found === undefined) {
    throw new OperatorError(
      'no-outbox',
      `There is no outbox where the search_path of this role leads. As its owner, run: ${commandLine('migrate')}`,
    );
  }
  if (found.schema && found.publish) return found;
  throw new OperatorError(
    'may-not-publish',
    `The role ${JSON.stringify(found.role)} in DATABASE_URL may not publish: it lacks INSERT on the outbox, as a relay's role does. ` +
      'Give DATABASE_URL the role of your application. To make one, as the owner of the outbox: ' +
      commandLine('roles --app shop'),
  );
}
