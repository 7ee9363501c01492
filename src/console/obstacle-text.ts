/** What keeps a relay from delivering, in words, and what to do. */
import { commandLine } from '../command-name.js';
import type { Obstacle } from '../feed/readiness.js';

interface ObstacleText {
  readonly message: string;
  readonly fix: string;
}

const TEXTS: Readonly<Record<Obstacle['code'], () => ObstacleText>> = {
  not_listening: () => ({
    message: 'The listening connection to PostgreSQL is lost. Events come later than usual, and none is lost.',
    fix: 'It connects again by itself. Where that lasts, see that PostgreSQL is up and LISTEN_DATABASE_URL leads to it.',
  }),
  no_feeder: () => ({
    message: 'No feeder feeds the stream in NATS.',
    fix: `Run one: ${commandLine('feed')}`,
  }),
  cannot_read: () => ({
    message: 'The relay cannot read new events: the database, or NATS, does not answer.',
    fix: 'It tries again by itself, and then delivers all that it missed. The log of the relay has what was answered.',
  }),
  behind: () => ({
    message: 'The relay knows of events that it has not read yet.',
    fix: 'Where that lasts, the database is slow to answer, or more is published than one relay can read.',
  }),
  floor_missing: () => ({
    message: 'The row in outbox_floor is gone, so nobody knows what was deleted.',
    fix: `${commandLine('doctor')} says how to make it anew.`,
  }),
  commit_hangs: () => ({
    message: 'A transaction hangs in its COMMIT, and events that come after it wait.',
    fix: `${commandLine('doctor')} says what it waits for, and whom to end.`,
  }),
};

export const obstacleText = (code: Obstacle['code']): ObstacleText => TEXTS[code]();
