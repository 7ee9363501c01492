/**
 * The terminal as a screen that is drawn anew again and again, and left as it was found, however
 * the process ends.
 */
import type { Output } from './output.js';

export interface Screen {
  readonly columns: number;
  readonly rows: number;
  /** @param lines no more than there are rows, none wider than there are columns */
  draw(lines: readonly string[]): Promise<void>;
  /** Gives the terminal back. Safe to call twice. */
  close(): void;
}

/** Of xterm, which all take that are in use: another screen, the cursor's visibility. */
const OPEN = '\u001b[?1049h\u001b[?25l';
const CLOSE = '\u001b[?25h\u001b[?1049l';
/** ECMA-48: to the corner; nothing behind on this line; nothing below. */
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

const CTRL_C = '\u0003';

/** Whether there is one to draw on. */
export const hasScreen = (): boolean => process.stdout.isTTY && process.env['TERM'] !== 'dumb';

/** @param onQuit called for `q` and Ctrl-C; @param onResize when there is another size to draw for */
export function openScreen(output: Output, onQuit: () => void, onResize: () => void): Screen {
  const { stdin, stdout } = process;
  let isOpen = true;
  const onKeys = (keys: Buffer) => {
    const typed = keys.toString();
    if (typed.includes('q') || typed.includes('Q') || typed.includes(CTRL_C)) onQuit();
  };
  if (stdin.isTTY) {
    stdin.setRawMode(true);
    stdin.on('data', onKeys);
  }
  stdout.on('resize', onResize);
  stdout.write(OPEN);
  function close(): void {
    if (!isOpen) return;
    isOpen = false;
    stdout.write(CLOSE);
    stdout.off('resize', onResize);
    if (stdin.isTTY) {
      stdin.setRawMode(false);
      stdin.off('data', onKeys).pause();
    }
    process.off('exit', close);
  }
  // Of what nobody foresaw.
  process.on('exit', close);
  return {
    get columns() {
      return stdout.columns;
    },
    get rows() {
      return stdout.rows;
    },
    draw: (lines) => output.print(`${HOME}${lines.map((line) => line + CLEAR_LINE).join('\r\n')}${CLEAR_BELOW}`),
    close,
  };
}
