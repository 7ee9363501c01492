/** How much the console shows at a time. */

/** Connections, where nobody has asked for fewer or more, and at most. */
export const CONNECTIONS_SHOWN = 50;
export const MOST_CONNECTIONS = 200;
export const CHANNELS_SHOWN = 100;
/** What each of several processes tells, so that the most wanted of all of them are among these. */
export const CHANNELS_TOLD = 2000;
