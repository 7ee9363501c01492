/** The package eventsource: EventSource for Node. */
import { EventSource } from 'eventsource';
import { CONTROLS, report } from './report.mjs';

const source = new EventSource(process.argv[2]);
for (const name of ['message', ...CONTROLS])
  source.addEventListener(name, ({ data, lastEventId }) => report(name, lastEventId, data));
