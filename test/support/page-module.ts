/**
 * A module of the console's page that needs no browser, as the page's build takes it.
 */
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const PAGE = fileURLToPath(new URL('../../../packages/console/page/', import.meta.url));

/** @param file in packages/console/page/ */
export async function loadPageModule<Module>(file: string): Promise<Module> {
  const { outputFiles } = await build({
    entryPoints: [PAGE + file],
    bundle: true,
    write: false,
    format: 'esm',
    jsx: 'automatic',
    jsxImportSource: 'preact',
  });
  const code = Buffer.from(outputFiles[0]?.contents ?? []).toString('base64');
  return (await import(`data:text/javascript;base64,${code}`)) as Module;
}
