/**
 * The names of all migrations, oldest first, as the folder has them: a new one needs no change in tests.
 */
import { readdirSync } from 'node:fs';

export const MIGRATIONS: readonly string[] = readdirSync(new URL('../../../migrations/', import.meta.url))
  .filter((file) => file.endsWith('.sql'))
  .map((file) => file.slice(0, -'.sql'.length))
  .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));

/** A line for each migration, as the command prints them; `down` goes through them from the newest. */
export function eachMigration(word: string, order: 'up' | 'down' = 'up'): string {
  const names = order === 'up' ? MIGRATIONS : MIGRATIONS.toReversed();
  return names.map((name) => `${word}${name}\n`).join('');
}
