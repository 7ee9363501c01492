/**
 * The time during which faults happen. At its end everybody who pauses is woken at once, so that whoever then catches up
 * has no sleep in front of it.
 */
export interface Shift {
  readonly isOn: boolean;
  /** Resolves after so many milliseconds, or at the end of the shift where that comes first. */
  pause(milliseconds: number): Promise<void>;
  end(): void;
}

export function startShift(): Shift {
  const sleepers = new Set<() => void>();
  let isOn = true;
  return {
    get isOn() {
      return isOn;
    },
    pause(milliseconds) {
      if (!isOn) return Promise.resolve();
      return new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          sleepers.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, milliseconds);
        sleepers.add(wake);
      });
    },
    end() {
      isOn = false;
      for (const wake of [...sleepers]) wake();
    },
  };
}
