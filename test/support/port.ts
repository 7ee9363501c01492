/**
 * Ports for servers that go away and come back.
 *
 * They lie below those that the kernel gives to connections (from 32768 on under Linux, 49152 elsewhere): while a server is
 * down, one of the many that try to reach it could otherwise be given the very port, and keep it.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';

const [FIRST, LAST] = [15_000, 32_000];

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const probe = createServer().listen(port, '127.0.0.1');
    const isFree = await Promise.race([once(probe, 'listening'), once(probe, 'error')]).then(
      () => probe.listening,
      () => false,
    );
    if (!isFree) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
