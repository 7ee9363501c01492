/** The INSERT statement that stands for what the publish form is about to do. It is shown, never run. */
import { byId } from './elements.js';

/** Shows the statement that inserts `row`, whose keys are columns and whose values are strings. */
export function showStatement(row) {
  const values = Object.values(row).flatMap((value, i, all) => [
    ['', i === 0 ? '' : i < all.length - 1 ? ', ' : ',\n  '],
    ['string', `'${value.replaceAll("'", "''")}'`],
  ]);
  const tokens = [
    ['keyword', 'INSERT INTO'],
    ['', ` outbox (${Object.keys(row).join(', ')})\n`],
    ['keyword', 'VALUES'],
    ['', ' ('],
    ...values,
    ['', ');'],
  ];
  byId('sql').replaceChildren(
    ...tokens.map(([kind, text]) => {
      const token = document.createElement('span');
      token.className = kind;
      token.textContent = text;
      return token;
    }),
  );
}
