/**
 * Colours, on a terminal that has some and unless NO_COLOR asks for none (see
 * https://no-color.org): what they say stands in words, too.
 */
type Paint = (text: string) => string;

export interface Colours {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly green: Paint;
  readonly yellow: Paint;
  readonly cyan: Paint;
}

const plain: Paint = (text) => text;
const NONE: Colours = { bold: plain, dim: plain, red: plain, green: plain, yellow: plain, cyan: plain };

/** Select Graphic Rendition (ECMA-48, 8.3.117). */
const paint =
  (on: number, off: number): Paint =>
  (text) =>
    `\u001b[${on}m${text}\u001b[${off}m`;
const ALL: Colours = {
  bold: paint(1, 22),
  dim: paint(2, 22),
  red: paint(31, 39),
  green: paint(32, 39),
  yellow: paint(33, 39),
  cyan: paint(36, 39),
};

/** @param stream that is written to. NO_COLOR, FORCE_COLOR and TERM=dumb are minded by Node. */
export function coloursFor(stream: NodeJS.WriteStream): Colours {
  // In a pipe it has no such method, whatever its type says.
  return stream.isTTY && stream.hasColors() ? ALL : NONE;
}
