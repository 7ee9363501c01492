/** Paths that others than their routes have to know. */

export const METRICS_PATH = '/metrics';
export const CONSOLE_PATH = '/console';

/** The console's page, or anything below it. */
export const isOfConsole = (path: string): boolean => path === CONSOLE_PATH || path.startsWith(`${CONSOLE_PATH}/`);
