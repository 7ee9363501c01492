/**
 * A stopwatch for promises that name a time. What the machine itself stood still, as one that is shared does now and then,
 * is not counted: a timer that comes late says how long that was.
 */
export interface Stopwatch {
  /** Since it was started. */
  seconds(): number;
}

const TICK_MS = 10;
/** A timer that is late by less than that is only busy. */
const STANDSTILL_MS = 50;

let stoodStill = 0;
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  if (now - last - TICK_MS > STANDSTILL_MS) stoodStill += now - last - TICK_MS;
  last = now;
}, TICK_MS).unref();

export function startStopwatch(): Stopwatch {
  const began = performance.now() - stoodStill;
  return { seconds: () => (performance.now() - stoodStill - began) / 1000 };
}
