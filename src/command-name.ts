/**
 * What people type to run this program, in all that tells them to: `npx outbox-relay`, or what is
 * installed in its place. `manage.py outbox_relay` says its own name by two variables, as migrations
 * are another command there.
 */
const { OUTBOX_RELAY_COMMAND: own, OUTBOX_RELAY_MIGRATE: migrate } = process.env;

/** The program as its help calls it. */
export const PROGRAM = own || 'outbox-relay';

/**
 * The line to be typed for one of its commands.
 *
 * @param args the command and its arguments, as in `prune --keep 7d`; empty: to run the relay
 */
export function commandLine(args: string): string {
  if (args === 'migrate' && migrate) return migrate;
  return `${own || 'npx outbox-relay'} ${args}`.trimEnd();
}
