/** All attacks, in the order in which they are measured: those last that leave a table with less history than they found. */
import type { Attack } from './attack.js';
import { BY_REQUEST } from './by-request.js';
import { BY_RESUME } from './by-resume.js';
import { BY_ROW } from './by-row.js';
import { BY_SESSION } from './by-session.js';

export const ATTACKS: readonly Attack[] = [...BY_REQUEST, ...BY_RESUME, ...BY_SESSION, ...BY_ROW];
