/**
 * Every Markdown page of the repository, with its headings, links and code blocks.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Folders with pages of others, or with none. */
const PASSED_BY = new Set(['node_modules', 'dist', '.git', '.data', '.cache', '.venv', 'build']);

export interface Block {
  /** Page and line, for messages. */
  readonly at: string;
  /** As after the fence; '' where there is none. */
  readonly language: string;
  readonly code: string;
  /** Why it is not run: `<!-- not run: … -->` on the line before the fence. */
  readonly notRun: string | undefined;
}

export interface Page {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  /** What links to the page can name after `#`, as GitHub makes it of the headings. */
  readonly anchors: ReadonlySet<string>;
  /** Targets of links and images, but those with a scheme. */
  readonly links: readonly string[];
  readonly blocks: readonly Block[];
  /** Inline code, without its backticks. */
  readonly spans: readonly string[];
}

/** All pages, by path. */
export function readPages(): ReadonlyMap<string, Page> {
  return new Map(pathsBelow(ROOT).map((path) => [path, readPage(path)]));
}

export function readPage(path: string): Page {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const blocks = blocksIn(path, text);
  const prose = text.replaceAll(/^( *)```[^]*?^\1```$/gm, '');
  const bare = prose.replaceAll(/(`+)[^]*?\1/g, '');
  return {
    path,
    text,
    anchors: anchorsOf(prose),
    links: [...bare.matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = '']) => to).filter((to) => !/^[a-z]+:/.test(to)),
    blocks,
    spans: [...prose.matchAll(/(`+)([^]*?)\1/g)].map(([, , code = '']) => code.trim()),
  };
}

/** The first block of a page in a language. */
export function blockOf(path: string, language: string, index = 0): string {
  const found = readPage(path).blocks.filter((block) => block.language === language)[index];
  if (found === undefined) throw new Error(`${path} has no block ${index} in ${language}.`);
  return found.code;
}

/** What is wrong with the links of a page: files and anchors that are not there. */
export function brokenLinks(page: Page, pages: ReadonlyMap<string, Page>): string[] {
  return page.links.filter((link) => {
    const [file, anchor] = link.split('#') as [string, string?];
    const path = file === '' ? page.path : relative(ROOT, join(ROOT, dirname(page.path), file));
    if (!existsSync(join(ROOT, path))) return true;
    return anchor !== undefined && pages.get(path)?.anchors.has(anchor) !== true;
  });
}

function pathsBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return PASSED_BY.has(entry.name.replace(/^\.venv.*/, '.venv')) ? [] : pathsBelow(path);
    return entry.name.endsWith('.md') ? [relative(ROOT, path)] : [];
  });
}

function blocksIn(path: string, text: string): Block[] {
  const fences = text.matchAll(/^(?:( *)<!-- not run: (.+?) -->\n)?( *)```(\w*)[^\n]*\n([^]*?)^\3```$/gm);
  return [...fences].map(({ index, 2: notRun, 3: indent = '', 4: language = '', 5: code = '' }) => ({
    at: `${path}:${text.slice(0, index).split('\n').length}`,
    language,
    code: code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
    notRun,
  }));
}

/** As GitHub makes them: lower case, no punctuation, hyphens for blanks, a number if repeated. */
function anchorsOf(prose: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of prose.matchAll(/^#{1,6} +(.+?)\s*$/gm)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const name = words.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(/\s/g, '-');
    let anchor = name;
    for (let n = 1; anchors.has(anchor); n++) anchor = `${name}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}
