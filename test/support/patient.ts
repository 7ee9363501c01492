/**
 * A database to be examined, as careful users have it: its outbox in a schema of its own, made and owned by a role that is no
 * superuser, and whoever mends it is that role, unless the doctor says that it takes another.
 */
import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import pg from 'pg';
import type { Fix, Finding, Result } from '../../src/admin/doctor/finding.js';
import type { Examination } from '../../src/admin/doctor/target.js';
import { examine } from '../../src/admin/doctor/doctor.js';
import { migrate } from '../../src/postgres/migrate.js';
import { makeRoles } from '../../src/admin/roles.js';
import { runCommand } from './command.js';
import { createDatabase, serverUrl, type TestDatabase } from './database.js';

export const SCHEMA = 'Our Events';

export interface Patient {
  /** As a superuser. */
  readonly db: TestDatabase;
  readonly owner: Role;
  /** Of a relay, as `outbox-relay roles` makes it. */
  readonly relay: Role;
  /** The doctor, called by the owner. */
  examine(options?: Partial<Examination>): Promise<readonly Result[]>;
  /** Follows the advice: runs what it says, as whom it says. */
  apply(fix: Fix | undefined): Promise<void>;
}

export interface Role {
  readonly name: string;
  readonly url: string;
}

export async function createPatient(t: Pick<ExecutionContext, 'teardown'>): Promise<Patient> {
  const suffix = randomBytes(4).toString('hex');
  const [ownerName, relayName] = [`Owner ${suffix}`, `relay_${suffix}`];
  const administer = async (sql: string) => {
    const client = new pg.Client({ connectionString: serverUrl(), application_name: 'test' });
    await client.connect();
    await client.query(sql).finally(() => client.end());
  };
  await administer(`CREATE ROLE "${ownerName}" LOGIN PASSWORD 'p'; GRANT pg_monitor TO "${ownerName}"`);
  // Roles belong to the whole server, and can be dropped once the database is.
  t.teardown(() => administer(`DROP ROLE IF EXISTS "${ownerName}", ${relayName}`));
  const db = await createDatabase(t, { template: false });
  await administer(`ALTER DATABASE ${db.name} SET search_path = "${SCHEMA}"`);
  await db.query(`CREATE SCHEMA "${SCHEMA}" AUTHORIZATION "${ownerName}"`);
  const urlOf = (role: string) => {
    const url = new URL(db.url);
    url.username = encodeURIComponent(role);
    url.password = 'p';
    return url.href;
  };
  const owner = { name: ownerName, url: urlOf(ownerName) };
  await migrate(owner.url, 'up');
  await makeRoles(db.url, { relay: [relayName] });
  await db.query(`ALTER ROLE ${relayName} PASSWORD 'p'`);

  return {
    db,
    owner,
    relay: { name: relayName, url: urlOf(relayName) },
    examine: (options) => examine({ databaseUrl: owner.url, listenDatabaseUrl: owner.url, ...options }),
    async apply(fix) {
      if (fix === undefined || 'advice' in fix) throw new Error('There is nothing to run.');
      const url = fix.as.includes('superuser') && !fix.as.includes(ownerName) ? db.url : owner.url;
      if ('sql' in fix) await paste(url, fix.sql);
      else {
        const args = fix.command.replace('npx outbox-relay ', '').split(' ');
        const { code, output } = await runCommand(args, { DATABASE_URL: url });
        if (code !== 0) throw new Error(output);
      }
    },
  };
}

/** What psql does with statements that are pasted into it. */
export async function paste(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  client.on('error', () => {});
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

/** All that is not as it should be; but that the owner, who looks, may do more than read. */
export function troubles(results: readonly Result[]): (Finding & { readonly check: string })[] {
  return results.flatMap(({ check, findings }) =>
    findings
      .filter(({ level, what }) => level !== 'ok' && !(check === 'rights' && what.includes('can do more than read')))
      .map((finding) => ({ check, ...finding })),
  );
}
