/**
 * The crowd as `top` shows it: channels by how many connections they have, and the connections that
 * are furthest behind.
 */
import type { RelayConnection, RelayConnections } from '../relay/connections.js';
import { bytes, grouped } from '../terminal/numbers.js';
import { oneLine } from '../terminal/terminal-text.js';

/** Most channels that are shown, and most connections. */
export const MOST_SHOWN = 10;

/** Columns of a name of a channel that stands before figures; a longer one is cut. */
const CHANNEL = 32;

/** @param rows how many there are for both together. */
export function crowdLines(crowd: RelayConnections, rows: number): string[] {
  const { channels, channelsTotal, connections } = crowd;
  const slowest = connections.filter(isBehind).map(slowLine);
  const named = channels.map(channelLine);
  // Each has half of the rows, and what the other leaves.
  const half = Math.floor(rows / 2);
  const forSlowest = Math.min(slowest.length + 1, MOST_SHOWN + 1, Math.max(half, rows - named.length - 1));
  const forChannels = Math.min(named.length + 1, MOST_SHOWN + 1, rows - forSlowest);
  return [
    ...[`channels      ${grouped(channelsTotal)} asked for`, ...named].slice(0, Math.max(0, forChannels)),
    ...[slowest.length === 0 ? 'slowest       none is behind' : 'slowest', ...slowest].slice(
      0,
      Math.max(0, forSlowest),
    ),
  ];
}

const isBehind = ({ lagEvents, waitingBytes, state }: RelayConnection) =>
  state !== 'live' || lagEvents === null || lagEvents > 0 || waitingBytes > 0;

function channelLine({ channel, connections, lagging }: RelayConnections['channels'][number]): string {
  const behind = lagging > 0 ? `  ${grouped(lagging)} behind` : '';
  return `  ${cut(oneLine(channel), CHANNEL).padEnd(CHANNEL)}  ${grouped(connections).padStart(7)}${behind}`;
}

/** What matters most comes first, as a narrow terminal cuts the end. */
function slowLine({ id, address, channels, moreChannels = 0, ...figures }: RelayConnection): string {
  const { state, lagEvents, waitingBytes, ageSeconds } = figures;
  const lag = lagEvents === null ? 'looks for its place' : `${grouped(lagEvents)} behind`;
  const asked = [...channels, ...(moreChannels > 0 ? [`${grouped(moreChannels)} more`] : [])].join(' ');
  return oneLine(
    `  ${id.padEnd(6)} ${lag}  ${state.replaceAll('-', ' ')}  ${bytes(waitingBytes)} waiting  ` +
      `${address || 'no address'}  open ${grouped(ageSeconds)} s  ${asked}`,
  );
}

function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, columns - 1)}…`;
}
