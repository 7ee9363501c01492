/**
 * Questions of relays to feeders over NATS: whoever asks gets the answer of one of them, and knows
 * by its seal that it is for that question.
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node';
import type { EngineLog, Unsubscribe } from '../engine/engine-log.js';
import type { Messages } from './messages.js';
import type { Question, Subjects } from './subjects.js';

/** The queue group of feeders: one of them gets each question. */
const FEEDERS = 'feeders';

export interface QuestionsParts {
  readonly nats: NatsConnection;
  readonly subjects: Subjects;
  readonly messages: Messages;
  /** Time for an answer, in ms. */
  readonly timeoutMs: number;
  /** @param queue a group, of which one member gets each message. */
  readonly listen: (subject: string, callback: (message: Msg) => void, queue: string) => Unsubscribe;
}

export function createQuestions(parts: QuestionsParts): Pick<EngineLog, 'feeders' | 'answer'> {
  const { nats, subjects, messages, timeoutMs, listen } = parts;

  async function ask(question: Question, body: Buffer): Promise<Msg> {
    return nats.request(subjects.ask(question), body, { timeout: timeoutMs });
  }

  return {
    feeders: {
      async changesSince(state, above) {
        const reply = await ask('changes', messages.writeChangesQuestion({ state, above }));
        return messages.readChanges(reply.data, reply.subject);
      },
      async isSameHistory(read) {
        const reply = await ask('history', messages.writeHistoryQuestion(read));
        return messages.readHistory(reply.data, reply.subject);
      },
    },

    answer(questions) {
      const answers = new Map<string, (asked: Uint8Array, to: string) => Promise<Buffer> | undefined>([
        [
          subjects.ask('changes'),
          (bytes, to) => {
            const asked = messages.readChangesQuestion(bytes);
            return (
              asked && questions.changesSince(asked.state, asked.above).then((is) => messages.writeChanges(is, to))
            );
          },
        ],
        [
          subjects.ask('history'),
          (bytes, to) => {
            const asked = messages.readHistoryQuestion(bytes);
            return asked && questions.isSameHistory(asked).then((is) => messages.writeHistory(is, to));
          },
        ],
      ]);
      return listen(
        subjects.anyQuestion,
        (question) => {
          const to = question.reply;
          const answer = to && answers.get(question.subject)?.(question.data, to);
          if (!answer) return;
          // What the database said is for the feeder's own log.
          answer
            .catch(() => messages.writeRefusal('its database does not answer', to))
            .then((bytes) => question.respond(bytes))
            .catch(() => undefined);
        },
        FEEDERS,
      );
    },
  };
}
