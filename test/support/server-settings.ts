/**
 * How the tests' PostgreSQL servers are set.
 *
 * Durability is not tested, commit order is: a commit waits for its WAL as in production, but the disk does not. The WAL is in
 * the hands of the system before anybody sees the rows, so the death of processes takes nothing back that a client got;
 * only the death of the machine would.
 */
export const SERVER_SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'on',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_connections: '300',
  shared_buffers: '32MB',
} as const;
