/**
 * `config`: how it is called.
 */
import { lazily, type Add } from '../face/command-face.js';

export function addConfig(add: Add): void {
  add({
    name: 'config',
    summary: 'show what the configuration comes to, without secrets',
    description:
      'Shows of each variable what holds, and whether that comes from the environment, from the settings of a Django project, ' +
      'from another variable or is the default. Of secrets it shows what is none. It exits with 1 where a value is not valid.',
    environment: ['DATABASE_URL'],
    example: 'outbox-relay config --set',
  })
    .option('--set', 'only what is not the default')
    .option('--json', 'print a list of objects with name, value, from, isSecret and expected')
    .action(lazily(async () => (await import('../commands/config.js')).runConfig));
}
