/**
 * What a relay's process uses, told from inside: loaded before the command with `--import`, as nothing in the relay itself is
 * there to be asked. It answers each message of the parent with the figures of that moment.
 */
export interface Usage {
  /** Bytes that are still reachable. Needs `--expose-gc`; without it, what is not collected yet counts too. */
  readonly heap: number;
  /** TCP connections, those to the database included. */
  readonly sockets: number;
  /** CPU time since the process began, in milliseconds. */
  readonly cpu: number;
}

process.on('message', () => {
  const { user, system } = process.cpuUsage();
  // What the first leaves behind in weak maps and finalisers, the second takes.
  globalThis.gc?.();
  globalThis.gc?.();
  const usage: Usage = {
    heap: process.memoryUsage().heapUsed,
    sockets: process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length,
    cpu: (user + system) / 1000,
  };
  process.send?.(usage);
});
process.channel?.unref();
