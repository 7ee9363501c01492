/**
 * `stats`: what is in the outbox table.
 */
import {
  MOST_CHANNELS,
  MOST_COUNTED,
  SAMPLE_ROWS,
  tableFigures,
  type Marked,
  type TableFigures,
} from '../../admin/table-figures.js';
import { databaseUrl } from '../face/required.js';
import { bytes, grouped } from '../terminal/numbers.js';
import { oneLine, safeJson } from '../terminal/terminal-text.js';

export async function runStats({ json }: { readonly json?: true }): Promise<void> {
  const figures = await tableFigures(databaseUrl('stats'));
  console.log(json ? safeJson(figures) : figuresText(figures));
}

const upTo = (value: number, most: number) => `${value >= most ? 'at least ' : ''}${grouped(value)}`;

function figuresText(figures: TableFigures): string {
  const { bytes: size, floor, largest, busiest, sampled } = figures;
  const lines: [string, string][] = [
    ['outbox', `schema ${figures.schema} of database ${figures.database}`],
    ['events', `${figures.isEstimate ? 'about ' : ''}${grouped(figures.rows)}`],
    ['size', `${bytes(size.total)}, of which indexes ${bytes(size.indexes)}, large data ${bytes(size.large)}`],
    ['channels', `${figures.areMoreChannels ? 'more than ' : ''}${grouped(Math.min(figures.channels, MOST_CHANNELS))}`],
    [
      'published',
      `${upTo(figures.lastMinute, MOST_COUNTED)} in the last minute, ${upTo(figures.lastHour, MOST_COUNTED)} in the last hour, ` +
        `${upTo(figures.lastDay, MOST_COUNTED)} in the last day`,
    ],
    ['floor', floor.position === '0' ? 'none: nothing was deleted' : `id ${floor.id}: what came before it is deleted`],
    ['oldest', markedText(figures.oldest)],
    ['newest', markedText(figures.newest)],
    ['largest', largest ? `${markedText(largest)}, ${bytes(largest.bytes)} as stored${ofSample(figures)}` : 'none'],
    ...busiest.map(({ channel, events }, index): [string, string] => [
      index === 0 ? 'busiest' : '',
      `${oneLine(channel)}  ${grouped(events)} of ${sampled === figures.rows ? '' : 'the newest '}${grouped(sampled)}`,
    ]),
  ];
  return lines.map(([name, text]) => `${name.padEnd(11)}${oneLine(text)}`).join('\n');
}

const ofSample = ({ sampled }: TableFigures) => (sampled < SAMPLE_ROWS ? '' : ` (of the newest ${grouped(sampled)})`);

function markedText(marked: Marked | undefined): string {
  return marked ? `id ${marked.id} in ${marked.channel}, ${marked.createdAt}` : 'none';
}
