/** What commands print behind a label, as a sentence: pages set it in a line of its own. */
export function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.:…]$/.test(text) ? '' : '.'}`;
}
