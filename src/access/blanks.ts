/**
 * Blanks at the ends of a text, and no others: HTTP knows spaces and tabs (RFC 9110, section
 * 5.6.3), and settings line ends as well. `String.prototype.trim` takes more for blanks, such as
 * U+00A0, which is part of a name.
 */
const BLANKS = new Set([' ', '\t', '\r', '\n']);

/** Without them. It takes time in proportion to the text, whatever is in it. */
export function withoutBlanks(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && BLANKS.has(text[start] ?? '')) start += 1;
  while (end > start && BLANKS.has(text[end - 1] ?? '')) end -= 1;
  return text.slice(start, end);
}
