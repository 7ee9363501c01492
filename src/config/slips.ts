/**
 * Names in the environment that are none of our variables and look as if they were meant to be one.
 * A variable that nobody reads is otherwise a setting that was never made.
 */
import { distance } from 'fastest-levenshtein';
import { VARIABLES } from './config.js';

export interface Slip {
  readonly name: string;
  readonly meant: string;
}

/** Shorter names, such as HOST and PORT, are near to those of everybody else. */
const SHORTEST = 6;

/** From this length on a name may have two wrong letters, else one. */
const LONG = 9;

/**
 * @returns near misses only: letters that are wrong, missing, too many or changed about, another
 * case or other separators. None for a variable that is set under its right name, as the other name
 * is then another program's.
 */
export function findSlips(env: Readonly<Record<string, string | undefined>>): Slip[] {
  const missing = VARIABLES.filter((name) => !env[name] && name.length >= SHORTEST);
  return Object.keys(env)
    .filter((name) => env[name] && !VARIABLES.includes(name) && /^[\w.-]+$/.test(name))
    .flatMap((name) => {
      const meant = missing.find((variable) => isNear(name, variable));
      return meant === undefined ? [] : [{ name, meant }];
    });
}

function isNear(name: string, variable: string): boolean {
  const [given, right] = [lettersOf(name), lettersOf(variable)];
  return distance(given, right) <= (right.length >= LONG ? 2 : 1);
}

/** Without case and separators. */
function lettersOf(name: string): string {
  return name.toUpperCase().replace(/[^A-Z\d]/g, '');
}
