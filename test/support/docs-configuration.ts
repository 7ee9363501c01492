/**
 * docs/configuration.md's table and .env.example, made from the descriptions in
 * src/config/variables.ts. As a program (`npm run docs`) it writes both files.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { descriptionOf, variables, type Description } from '../../src/config/variables.js';

const PAGE = new URL('../../../docs/configuration.md', import.meta.url);
const EXAMPLE = new URL('../../../.env.example', import.meta.url);
const COMMENT_COLUMNS = 118;

/** The table stands between these; what is between them is written by `npm run docs`. */
const BEGIN = '<!-- variables: written by `npm run docs` -->';
const END = '<!-- end of variables -->';

/** What a value may be, where that can be said in a few words. */
const SHORT = /^(?:a (?:whole )?number from|one of )/;

interface Variable extends Description {
  readonly name: string;
  /** As it would be written in the environment; undefined where the schema has none. */
  readonly fallback: string | undefined;
  readonly accepted: string | undefined;
}

export interface Written {
  readonly file: URL;
  readonly found: string;
  readonly wanted: string;
}

/** Each of the two files, as it is and as it has to be. */
export async function configurationFiles(): Promise<Written[]> {
  const page = await readFile(PAGE, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin === -1 || end === -1) throw new Error(`docs/configuration.md has no ${BEGIN} and ${END}.`);
  const groups = groupsOf(listVariables());
  return [
    {
      file: PAGE,
      found: page,
      wanted: `${page.slice(0, begin)}${BEGIN}\n${groups.map(tableOf).join('')}\n${page.slice(end)}`,
    },
    { file: EXAMPLE, found: await readFile(EXAMPLE, 'utf8'), wanted: exampleOf(groups) },
  ];
}

function listVariables(): Variable[] {
  return (Object.keys(variables.shape) as (keyof typeof variables.shape)[]).map((name) => {
    const schema = variables.shape[name];
    const value: unknown = schema.safeParse(undefined).data;
    const hasDefault = typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string';
    const accepted = schema.safeParse('\u0000').error?.issues[0]?.message ?? '';
    return {
      ...descriptionOf(name),
      name,
      fallback: hasDefault ? String(value) : undefined,
      accepted: SHORT.test(accepted) ? accepted : undefined,
    };
  });
}

/** In order; variables of one group follow one another. */
function groupsOf(all: readonly Variable[]): [string, Variable[]][] {
  const groups = new Map<string, Variable[]>();
  for (const variable of all) groups.set(variable.group, [...(groups.get(variable.group) ?? []), variable]);
  return [...groups];
}

function tableOf([group, members]: [string, Variable[]]): string {
  const rows = members.map(({ name, fallback, unset, accepted, meaning, more }) => {
    const standard = unset ?? (fallback === undefined ? '' : `\`${fallback}\``);
    const also = [accepted && `${upper(accepted)}.`, more && `[More](${more}).`].filter(Boolean);
    return `| \`${name}\` | ${standard} | ${[meaning, ...also].join(' ')} |\n`;
  });
  return `\n## ${group}\n\n| variable | default | meaning |\n| --- | --- | --- |\n${rows.join('')}`;
}

function exampleOf(groups: readonly [string, Variable[]][]): string {
  const parts = groups.map(
    ([group, members]) =>
      `# --- ${group} ---\n\n${members
        .map(({ name, fallback, unset, example, meaning }) => {
          const standard = unset?.replace(/^none(?:: )?/, '');
          const otherwise = standard ? ` Not set: ${standard}.` : '';
          return `${commented(`${meaning}${otherwise}`)}# ${name}=${example ?? fallback ?? ''}\n`;
        })
        .join('')}`,
  );
  return `${commented(
    'Settings of outbox-relay. Nothing is set here: every line shows a default or an example. Copy this file to .env, remove ' +
      'the "#" from what you change, and load it with `node --env-file=.env` or Docker\'s `env_file`. Empty means not set. ' +
      'Written by `npm run docs`; docs/configuration.md says the same.',
  )}\n${parts.join('\n')}`;
}

/** As comment lines of about the same length, so that none ends in a word alone. */
function commented(text: string): string {
  let columns = COMMENT_COLUMNS;
  let lines = wrapped(text, columns);
  for (const { length } = lines; columns > 1; columns--) {
    const narrower = wrapped(text, columns - 1);
    if (narrower.length > length) break;
    lines = narrower;
  }
  return `${lines.join('\n')}\n`;
}

function wrapped(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '#';
  for (const word of text.split(' ')) {
    if (line !== '#' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = '#';
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

const upper = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { file, wanted } of await configurationFiles()) await writeFile(file, wanted);
}
