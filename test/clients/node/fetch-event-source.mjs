/** @microsoft/fetch-event-source, at its defaults but for what it takes of a browser. */
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { report } from './report.mjs';

globalThis.window = globalThis;
globalThis.document = { removeEventListener() {} };
await fetchEventSource(process.argv[2], {
  openWhenHidden: true,
  onmessage: ({ event, id, data }) => report(event, id, data),
});
