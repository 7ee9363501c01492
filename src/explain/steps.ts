/**
 * An explanation, as a row of steps: what was looked at, whether it is as it has to be, and what to
 * do where it is not.
 */

/**
 * | verdict   | meaning                                                        |
 * |-----------|----------------------------------------------------------------|
 * | `yes`     | as it has to be                                                |
 * | `no`      | this is why nothing arrives                                    |
 * | `unknown` | not looked at, or it depends on what is not known here         |
 */
export type Verdict = 'yes' | 'no' | 'unknown';

export interface Step {
  readonly step: string;
  readonly verdict: Verdict;
  readonly what: string;
  readonly todo?: string;
}

export interface Explanation {
  /** What is explained, without secrets. */
  readonly subject: string;
  readonly steps: readonly Step[];
}

export const yes = (step: string, what: string): Step => ({ step, verdict: 'yes', what });
export const no = (step: string, what: string, todo?: string): Step => ({
  step,
  verdict: 'no',
  what,
  ...(todo === undefined ? {} : { todo }),
});
export const unknown = (step: string, what: string, todo?: string): Step => ({
  step,
  verdict: 'unknown',
  what,
  ...(todo === undefined ? {} : { todo }),
});

export const isGood = ({ steps }: Explanation): boolean => steps.every(({ verdict }) => verdict !== 'no');
