/**
 * One timer for the heartbeats of all streams.
 *
 * A wheel of slots, one of which is looked at per tick. A stream sits in the slot in which it would
 * have been silent for a whole period; if it was written to meanwhile it moves on to the slot that
 * that write makes due. So a write costs one assignment, and an idle stream costs one visit per
 * period, however many there are.
 */

/** What sits on the wheel. */
export interface Beating {
  /** Tick of the last write; its owner sets it to `now` at each. */
  wroteAt: number;
  /** Called when nothing was written for a period. */
  beat(): void;
}

export interface Heartbeat {
  /** The current tick. */
  readonly now: number;
  add(stream: Beating): void;
  remove(stream: Beating): void;
  stop(): void;
}

/** Ticks in one period: a heartbeat comes at most this part of the period late. */
const TICKS = 15;

export function startHeartbeat({ seconds }: { seconds: number }): Heartbeat {
  const slots = Array.from({ length: TICKS + 1 }, () => new Set<Beating>());
  let now = 0;

  const slotOf = (tick: number): Set<Beating> => slots[tick % slots.length] as Set<Beating>;

  const timer = setInterval(
    () => {
      now += 1;
      const due = slotOf(now);
      const streams = [...due];
      due.clear();
      for (const stream of streams) {
        if (stream.wroteAt + TICKS <= now) {
          stream.wroteAt = now;
          slotOf(now + TICKS).add(stream);
          stream.beat();
        } else {
          slotOf(stream.wroteAt + TICKS).add(stream);
        }
      }
    },
    (seconds * 1000) / TICKS,
  );

  return {
    get now() {
      return now;
    },
    add(stream) {
      stream.wroteAt = now;
      slotOf(now + TICKS).add(stream);
    },
    remove(stream) {
      // Where it sits is not kept, which would cost every stream a field: departures are rarer than
      // idle streams.
      for (const slot of slots) if (slot.delete(stream)) return;
    },
    stop: () => clearInterval(timer),
  };
}
