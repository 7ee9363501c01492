/**
 * JSON set out in lines. It works on the text: a number keeps all its digits and a key that comes
 * twice is there twice, which parsing and printing would change.
 */

const INDENT = '  ';
const MOST_DEPTH = 40;

/** @returns the text as it is, where it is no JSON or was cut off */
export function pretty(json: string): string {
  let text = '';
  let depth = 0;
  const line = () => `\n${INDENT.repeat(Math.min(depth, MOST_DEPTH))}`;
  const tokens = /"(?:[^"\\]|\\.)*"?|[{}[\],:]|[^\s"{}[\],:]+/gsu;
  let before = '';
  for (const [token] of json.matchAll(tokens)) {
    const isEmpty = (before === '{' && token === '}') || (before === '[' && token === ']');
    if (token === '}' || token === ']') depth -= 1;
    if (depth < 0) return json;
    if (!isEmpty && (before === '{' || before === '[' || before === ',' || token === '}' || token === ']')) {
      text += line();
    }
    text += token === ':' ? ': ' : token;
    if (token === '{' || token === '[') depth += 1;
    before = token;
  }
  return text;
}
