/** A generator in a process of its own, for the parts of the benchmark: it does what its parent says. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createGenerator, type GeneratorOptions, type Report } from './generator.js';

type Call = { readonly call: 'open' | 'reset' | 'report' } | { readonly call: 'until'; readonly deliveries: number };

export interface RemoteGenerator {
  readonly pid: number;
  /** Resolves when so many events have arrived since the last `reset`. */
  until(deliveries: number): Promise<void>;
  reset(): Promise<void>;
  report(): Promise<Report>;
  close(): Promise<void>;
}

/** Resolves when all streams are open. @throws where one of them could not be. */
export async function startGenerator(
  options: Partial<GeneratorOptions> & { url: string; connections: number },
): Promise<RemoteGenerator> {
  const child = fork(fileURLToPath(import.meta.url), [
    JSON.stringify({ headers: [], ramp: 2000, lanes: 1, sources: 0, ...options }),
  ]);
  await ask(child, { call: 'open' });
  return {
    pid: child.pid ?? 0,
    until: async (deliveries) => {
      await ask(child, { call: 'until', deliveries });
    },
    reset: async () => {
      await ask(child, { call: 'reset' });
    },
    report: async () => (await ask(child, { call: 'report' })) as Report,
    async close() {
      if (child.exitCode !== null) return;
      const gone = once(child, 'exit');
      child.disconnect();
      await gone;
    },
  };
}

/** One after the other. @throws what the child has failed with. */
async function ask(child: ChildProcess, call: Call): Promise<unknown> {
  const ended = new AbortController();
  const answer = once(child, 'message', { signal: ended.signal });
  const onExit = () => ended.abort(new Error('the generator has ended'));
  child.once('exit', onExit);
  child.send(call);
  const [{ error, value }] = (await answer) as [{ error?: string; value?: unknown }];
  child.off('exit', onExit);
  if (error !== undefined) throw new Error(error);
  return value;
}

function serve(options: GeneratorOptions): void {
  const generator = createGenerator(options);
  const answer = async (call: Call): Promise<unknown> => {
    if (call.call === 'open') return generator.open();
    if (call.call === 'until') return generator.until(call.deliveries);
    if (call.call === 'reset') return generator.reset();
    return generator.report();
  };
  process.on('message', (call: Call) => {
    answer(call).then(
      (value) => process.send?.({ value }),
      (error: unknown) => process.send?.({ error: String(error) }),
    );
  });
  process.on('disconnect', () => generator.close());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve(JSON.parse(process.argv[2] ?? '') as GeneratorOptions);
