/**
 * Whether this process is a worker of another, its primary, and how it takes leave of that. Apart
 * from what workers do, as each command asks it.
 */
import cluster from 'node:cluster';

/** Neither the primary nor the only process. */
export const { isWorker } = cluster;

/** In a worker: closes the channel to the primary, which keeps the process alive. */
export function disconnectFromPrimary(): void {
  if (isWorker && process.connected) process.disconnect();
}
