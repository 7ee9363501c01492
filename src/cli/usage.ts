/**
 * What the command can do, as `--help` shows it.
 */
export const USAGE = `Usage:
  outbox-relay                   run the relay on the outbox in DATABASE_URL
  outbox-relay demo              run a demo on a PostgreSQL of its own, with its data in .data, for this machine only
  outbox-relay migrate [up]      create or update the outbox in DATABASE_URL
  outbox-relay migrate down      remove all that migrate made, events included
  outbox-relay migrate status    show what is applied and what is missing
  outbox-relay roles --app NAME --relay NAME --retention NAME --redaction NAME [--print]
                                 make those roles, or some of them, with the least rights; --print shows the SQL instead
  outbox-relay doctor [--json]   look for trouble, and say what to run against it; changes nothing. Exit 1 on errors
  outbox-relay advance-ids [--by NUMBER]
                                 after a restore or a failover that lost commits: see that no id is given out twice
  outbox-relay prune --keep 7d   delete events that are older; with RETENTION=7d the relay does it by itself
  outbox-relay token --channel CHANNEL [--channel CHANNEL …] [--expires 1h] [--sub NAME]
                                 print a token for these channels, signed with JWT_SECRET, to try things out
  outbox-relay --help | --version

Settings come from the environment: see .env.example.`;
