/**
 * The shell commands of the documentation: programs, words and variables.
 */
export interface ShellCommand {
  /** The program, and what follows it. Empty where only variables are set. */
  readonly words: readonly string[];
  /** Names of the variables that are set for it, or by `export`. */
  readonly variables: readonly string[];
}

/**
 * Lists the commands of a block. A line may have several, joined by `&&`, `|` or `;`, and others
 * within `$(…)`. In a console block only lines that begin with `$ ` are commands.
 */
export function commandsIn(code: string, language: string): ShellCommand[] {
  const lines = code.replaceAll('\\\n', ' ').split('\n');
  const typed =
    language === 'console' ? lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2)) : lines;
  return typed.flatMap((line) => commandsOfLine(withoutComment(line)));
}

function commandsOfLine(line: string): ShellCommand[] {
  const inner = [...line.matchAll(/\$\(([^)]*)\)/g)].flatMap(([, code = '']) => commandsOfLine(code));
  const outer = splitOutsideQuotes(line.replaceAll(/\$\([^)]*\)/g, '…'))
    .map(takeApart)
    .filter(({ words, variables }) => words.length + variables.length > 0);
  return [...inner, ...outer];
}

function takeApart(command: string): ShellCommand {
  const words = [...command.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) => word);
  const isExport = words[0] === 'export';
  if (isExport) words.shift();
  const first = words.findIndex((word) => !/^[A-Z][A-Z0-9_]*=/.test(word));
  const variables = words
    .splice(0, first === -1 ? words.length : first)
    .map((word) => word.slice(0, word.indexOf('=')));
  return { words: words.map((word) => word.replaceAll(/['"]/g, '')), variables };
}

function withoutComment(line: string): string {
  return line.replace(/(^|\s)#.*$/, '');
}

function splitOutsideQuotes(line: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (const [piece] of line.matchAll(/'[^']*'|"[^"]*"|&&|[|;]|[^'"|;&]+|&/g)) {
    if (['&&', '|', ';'].includes(piece)) {
      parts.push(part);
      part = '';
    } else part += piece;
  }
  return [...parts, part];
}
