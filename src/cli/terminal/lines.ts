/**
 * Lines of an input, one at a time: of a large file no more is in memory than a line, and of a line
 * no more than a bound.
 */
import { OperatorError } from '../../operator-error.js';

export interface Line {
  /** From 1 on. */
  readonly number: number;
  readonly text: string;
}

/**
 * As JSON, an event of 16 MiB can take six bytes for each of them; who escapes all has no use for
 * more.
 */
const MAX_LINE_BYTES = 128 * 1024 * 1024;
const LF = 0x0a;

/**
 * Lines that are not blank, without their ends.
 *
 * @throws OperatorError `bad-input` for a line that is too long or no UTF-8
 */
export async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let number = 0;
  let parts: Uint8Array[] = [];
  let size = 0;

  function take(): Line | undefined {
    number += 1;
    const bytes = Buffer.concat(parts);
    parts = [];
    size = 0;
    try {
      const text = decoder.decode(bytes).replace(/\r$/, '');
      return text.trim() === '' ? undefined : { number, text };
    } catch (error) {
      throw new OperatorError('bad-input', `Line ${number} is not UTF-8.`, { cause: error });
    }
  }

  for await (const chunk of input) {
    let from = 0;
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, from)) {
      parts.push(chunk.subarray(from, end));
      from = end + 1;
      const line = take();
      if (line) yield line;
    }
    const rest = chunk.subarray(from);
    parts.push(rest);
    size += rest.length;
    if (size > MAX_LINE_BYTES) {
      throw new OperatorError('bad-input', `Line ${number + 1} is longer than 128 MiB. One event is one line.`);
    }
  }
  const last = take();
  if (last) yield last;
}
