/** reconnecting-eventsource, django-eventstream's client, over the package eventsource. Its cursor needs listeners by name. */
import { EventSource } from 'eventsource';
import reconnecting from 'reconnecting-eventsource';
import { CONTROLS, report } from './report.mjs';

const ReconnectingEventSource = reconnecting.default ?? reconnecting;
const source = new ReconnectingEventSource(process.argv[2], { eventSourceClass: EventSource });
for (const name of ['message', ...CONTROLS])
  source.addEventListener(name, ({ data, lastEventId }) => report(name, lastEventId, data));
