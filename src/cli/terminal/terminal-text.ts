/**
 * What others wrote, fit for a terminal: nothing in it moves the cursor, changes colours or titles,
 * or turns the direction of what follows.
 */

/**
 * Control characters, C1 among them, of which some terminals make escape sequences; invisible
 * formatting, such as what turns the direction of text (Unicode TR 9); halves of characters; and
 * the separators that some take for line breaks. What joins letters and emoji may stay.
 */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;

/** In a text of several lines. */
const UNSAFE_BUT_BREAKS = /(?![\n\t])[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;

/** As JavaScript writes it, by units of UTF-16. */
function escaped(character: string): string {
  return character
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}

/** On one line. Of JSON it is what means the same, as there such characters stand in strings alone. */
export function oneLine(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** With its line breaks and tabs. */
export function severalLines(text: string): string {
  return text.replace(UNSAFE_BUT_BREAKS, escaped);
}

/**
 * JSON on one line, which means the same to whoever parses it.
 *
 * @param value what can be told in JSON
 */
export const safeJson = (value: unknown): string => oneLine(JSON.stringify(value));
