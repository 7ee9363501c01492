/**
 * Properties in ava: what fails is reported with fast-check's counterexample and seed. ava's own assertions would report
 * the first input that failed instead of the smallest, so a property asserts with `node:assert`.
 */
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';

export function holds<Values>(
  t: ExecutionContext,
  property: fc.IProperty<Values>,
  parameters?: fc.Parameters<Values>,
): void {
  t.notThrows(() => fc.assert(property, parameters));
}

export async function holdsAsync<Values>(
  t: ExecutionContext,
  property: fc.IAsyncProperty<Values>,
  parameters?: fc.Parameters<Values>,
): Promise<void> {
  await t.notThrowsAsync(() => fc.assert(property, parameters));
}
