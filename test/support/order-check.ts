/**
 * What tests say of the model of the publish protocol: that it holds, or what breaks where a rule is missing.
 */
import type { ExecutionContext } from 'ava';
import { explore } from './explore.js';
import { createModel } from './order-model.js';
import { RULES, type Rules, type Size, type View } from './order-state.js';

const ONE: Size = {
  publishers: 1,
  publications: 1,
  relays: 1,
  crashes: 0,
  prunings: 0,
  losses: 0,
  mayRingersAbort: false,
};

/** More would take minutes. */
const MOST_STATES = 3_000_000;

/** Asserts that nothing breaks, under other rules where some are given; else it fails with the shortest way there. */
export async function holds(
  t: ExecutionContext,
  view: View,
  size: Partial<Size>,
  rules: Partial<Rules> = {},
): Promise<void> {
  const { trace, rests, states } = await explore(
    createModel(view, { ...RULES, ...rules }, { ...ONE, ...size }),
    MOST_STATES,
  );
  t.log(`${states} states`);
  t.is(trace?.join('\n'), undefined);
  t.true(rests > 0, 'nobody ever comes to rest');
}

/** Asserts that other rules break `what`. */
export async function breaks(
  t: ExecutionContext,
  view: View,
  rules: Partial<Rules>,
  size: Partial<Size>,
  what: RegExp,
): Promise<void> {
  const { trace = ['nothing breaks'] } = await explore(
    createModel(view, { ...RULES, ...rules }, { ...ONE, ...size }),
    MOST_STATES,
  );
  t.regex(trace.at(-1) ?? '', what, trace.join('\n'));
}

/**
 * For a single publisher, which always gets the bell. Relays do not look again, so what holds here
 * holds where they do.
 */
export const PLAIN: Partial<Rules> = {
  publish: RULES.publish.filter((step) => step !== 'tryBell'),
  settle: ['look'],
};

export const PASSED =
  /^broken: position \d became visible after relay \d had read past it$|^broken: relay \d passed by position \d$/;
export const UNREAD = /^broken: all relays are asleep, and relay \d has not read all that is visible$/;
