/**
 * Which version of the package this is. As deep in src/ as the wheel's bundle, which it is a part of.
 */
import { readFileSync } from 'node:fs';

export function version(): string {
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
