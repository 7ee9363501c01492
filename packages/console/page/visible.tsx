/**
 * What others wrote, shown so that nothing in it acts: it is text, never markup; control
 * characters, what turns the direction of text, what cannot be seen, and halves of characters stand
 * there by their numbers.
 */
import type { ComponentChildren } from 'preact';

/**
 * As for a terminal; what joins letters and emoji may stay. Line breaks and tabs stay where there
 * are several lines.
 */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;
const UNSEEN_BUT_BREAKS = /(?![\n\t])[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;
/**
 * So many marks are elements of their own, and what follows is text: a page of a million elements
 * would hang.
 */
const MOST_MARKS = 500;

const number = (character: string): string =>
  `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;

/** The beginning, without half of a character at its end. */
export const clip = (text: string, most: number): string =>
  text.length <= most ? text : text.slice(0, most).replace(/[\ud800-\udbff]$/, '');

/** For titles and attributes. */
export const visible = (text: string): string => text.replace(UNSEEN, (character) => `<${number(character)}>`);

interface TextProps {
  readonly value: string;
  /** Keeps line breaks and tabs. */
  readonly lines?: boolean;
}

/** In an element that keeps its direction from its surroundings. */
export function Text({ value, lines = false }: TextProps) {
  const unseen = lines ? UNSEEN_BUT_BREAKS : UNSEEN;
  const parts: ComponentChildren[] = [];
  let end = 0;
  let marks = 0;
  for (const { 0: character, index } of value.matchAll(unseen)) {
    if (marks++ === MOST_MARKS) break;
    parts.push(value.slice(end, index), <span class="unseen-character">{number(character)}</span>);
    end = index + character.length;
  }
  parts.push(value.slice(end).replace(unseen, (character) => `<${number(character)}>`));
  return <bdi>{parts}</bdi>;
}
