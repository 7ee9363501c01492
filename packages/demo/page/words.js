/** The wording that several messages of the page share. */

/** `1 event`, `2 events`. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;
