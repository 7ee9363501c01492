/** Where the page begins. */
import { render } from 'preact';
import { App } from './app.js';
import { askSession } from './session.js';

const root = document.getElementById('root');
if (root) render(<App />, root);
void askSession();
