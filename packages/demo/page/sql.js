/**
 * The statements by which the demo publishes. The page shows them and the server runs them, both from here, so that what
 * is shown is what ran. Both return the text in pieces, `[kind, text]`, for colours: joined they are the statement.
 */

const literal = (text) => ['string', `'${text.replaceAll("'", "''")}'`];

/** Inserts one row. `event` and `data`, text and JSON, are left to the table's defaults where they are missing. */
export function insertOne({ channel, event, data }) {
  const columns = Object.entries({ channel, event, data }).filter(([, value]) => value !== undefined);
  return [
    ['keyword', 'INSERT INTO'],
    ['', ` outbox (${columns.map(([name]) => name).join(', ')})\n`],
    ['keyword', 'VALUES'],
    ['', ' ('],
    ...columns.flatMap(([name, value], i) => [['', i === 0 ? '' : name === 'data' ? ',\n  ' : ', '], literal(value)]),
    ['', ')\n'],
    ['keyword', 'RETURNING'],
    ['', ' id;'],
  ];
}

/** Inserts `count` rows on a channel, numbered from 1. */
export function insertMany({ channel, count }) {
  return [
    ['keyword', 'INSERT INTO'],
    ['', ' outbox (channel, data)\n'],
    ['keyword', 'SELECT'],
    ['', ' '],
    literal(channel),
    ['', ', jsonb_build_object('],
    literal('n'),
    ['', ', n, '],
    literal('of'),
    ['', `, ${count})\n`],
    ['keyword', 'FROM'],
    ['', ` generate_series(1, ${count}) AS n\n`],
    ['keyword', 'RETURNING'],
    ['', ' id;'],
  ];
}

export const textOf = (pieces) => pieces.map(([, text]) => text).join('');
