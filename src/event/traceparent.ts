/**
 * A traceparent: the span within which an event was published, as W3C's Trace Context writes it. Of
 * that only what all versions have in common is taken, which is all of version 00.
 *
 * Source: https://www.w3.org/TR/trace-context/#traceparent-header-field-values
 */

/** As a regular expression, of JavaScript and of PostgreSQL. */
export const TRACEPARENT_FORM = '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$';
export const TRACEPARENT_BYTES = 55;

const form = new RegExp(TRACEPARENT_FORM);

export function isTraceparent(text: string): boolean {
  return form.test(text);
}
