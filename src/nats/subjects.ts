/**
 * Subjects: what feeders and relays of one outbox send, and where. The name is `NATS_STREAM`, which
 * is that of the stream as well.
 */
export interface Subjects {
  /** What the stream has. */
  readonly log: string;
  /** Where each message goes out once more, right after it was appended. */
  readonly live: string;
  readonly beat: string;
  /** What relays ask feeders: a subject for each question. */
  readonly ask: (question: Question) => string;
  readonly anyQuestion: string;
}

export const QUESTIONS = ['changes', 'history'] as const;
export type Question = (typeof QUESTIONS)[number];

export function subjectsOf(name: string): Subjects {
  const under = (rest: string) => `outbox.${name}.${rest}`;
  return {
    log: under('log'),
    live: under('live'),
    beat: under('beat'),
    ask: (question) => under(`ask.${question}`),
    anyQuestion: under('ask.*'),
  };
}
