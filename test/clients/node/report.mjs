/** The relay's own events that a client can be asked for by name. */
export const CONTROLS = ['stream-open', 'stream-cursor', 'stream-pause', 'stream-reset', 'stream-error'];

/** Prints what a client hands to its application, as a line of JSON. */
export function report(name, id, data) {
  console.log(JSON.stringify({ name: name || 'message', id: id ?? '', data }));
}
