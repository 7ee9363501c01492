/** The panel with the statement: what "Publish" is about to run, and after that, until the form is edited, what ran. */
import { byId } from './elements.js';
import { insertOne } from './sql.js';

export function showNext(row) {
  byId('statement-title').textContent = 'What Publish runs';
  show(insertOne(row));
}

/** `pieces` are those of the statement that the server has run. */
export function showRan(pieces) {
  byId('statement-title').textContent = 'What ran';
  show(pieces);
}

function show(pieces) {
  byId('sql').replaceChildren(
    ...pieces.map(([kind, text]) => {
      const token = document.createElement('span');
      token.className = kind;
      token.textContent = text;
      return token;
    }),
  );
}
