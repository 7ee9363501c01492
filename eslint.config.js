import tseslint from 'typescript-eslint';

/**
 * Rooms of src/, each with the rooms that it may import from, all of which stand above it: so there is no circle. What is
 * not named here, relay.ts, source.ts, observation.ts, feeder.ts and main.ts, connects them and may import from all;
 * operator-error.ts and command-name.ts import nothing. A room within a room names its neighbours with both names.
 */
const ROOMS = {
  event: [],
  postgres: ['event', 'operator-error', 'command-name'],
  outbox: ['event', 'postgres', 'operator-error'],
  feed: ['event', 'postgres/retry', 'outbox', 'command-name'],
  engine: ['event', 'postgres/retry', 'outbox', 'feed', 'command-name', 'operator-error'],
  nats: ['event', 'postgres/retry', 'outbox', 'engine', 'operator-error', 'command-name'],
  stream: ['event', 'postgres/retry', 'postgres/standby', 'outbox', 'feed'],
  access: ['event'],
  tracing: ['event', 'postgres/retry', 'outbox', 'feed', 'operator-error'],
  metrics: ['outbox', 'engine', 'feed', 'stream', 'tracing'],
  http: ['event', 'access', 'stream', 'metrics'],
  config: ['event', 'postgres', 'access', 'operator-error'],
  admin: ['postgres', 'engine', 'nats', 'operator-error', 'command-name'],
  'admin/doctor': [
    'postgres',
    'engine',
    'nats',
    'tracing/settings',
    'operator-error',
    'command-name',
    'admin/excess-rights',
  ],
  explain: ['event', 'access', 'config', 'admin', 'command-name'],
  console: [
    ...['event', 'postgres/pool', 'outbox', 'access', 'feed', 'stream', 'http', 'config', 'admin'],
    ...['metrics/kept', 'explain', 'operator-error', 'command-name'],
  ],
  'cli/terminal': ['operator-error'],
  'cli/face': ['config', 'postgres', 'operator-error', 'command-name'],
  'cli/relay': ['access', 'config', 'operator-error', 'cli/terminal'],
  'cli/top': ['config', 'http', 'operator-error', 'cli/terminal', 'cli/face', 'cli/relay'],
  'cli/explain': [
    ...[
      'explain',
      'event',
      'postgres',
      'outbox',
      'access',
      'http',
      'config',
      'admin',
      'operator-error',
      'command-name',
    ],
    ...['cli/terminal', 'cli/face', 'cli/relay'],
  ],
  'cli/commands': [
    ...['event', 'postgres', 'access', 'config', 'admin', 'operator-error', 'command-name'],
    ...['cli/terminal', 'cli/face', 'cli/relay'],
  ],
  'cli/serve': [
    ...['event', 'postgres', 'engine', 'nats', 'metrics', 'http', 'config', 'admin', 'relay', 'feeder', 'observation'],
    ...['operator-error', 'command-name', 'console', 'cli/terminal', 'cli/face'],
  ],
  'cli/program': [
    ...['event', 'config', 'command-name', 'cli/face', 'cli/relay'],
    ...['cli/top', 'cli/explain', 'cli/commands', 'cli/serve'],
  ],
};

/** @returns what a file of the room may not import: by `../../` from src/, by `../` from beside it in its room */
function forbidden(room, allowed) {
  const [parent, inner] = room.split('/');
  const within = allowed.filter((name) => name.startsWith(`${parent}/`));
  const names = (list) => [...list, '-'].join('|');
  const outside = names(allowed.filter((name) => !within.includes(name)));
  if (inner === undefined) return `^(\\.\\./)+(?!\\.\\./|(${outside})(/|\\.js$))`;
  const beside = names(within.map((name) => name.slice(parent.length + 1)));
  return `^\\.\\./(\\.\\./)+(?!\\.\\./|(${outside})(/|\\.js$))|^\\.\\./(?!\\.\\./|(${beside})(/|\\.js$))`;
}

const importZones = Object.entries(ROOMS).map(([room, allowed]) => ({
  files: [`src/${room}/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: forbidden(room, allowed),
            message: `src/${room} imports from ${allowed.length > 0 ? allowed.join(', ') : 'no other room'} only (ROOMS in eslint.config.js).`,
          },
        ],
      },
    ],
  },
}));

export default tseslint.config(
  {
    ignores: [
      'dist/',
      '.cache/',
      '.data/',
      'node_modules/',
      'examples/',
      'test/clients/node/',
      'test/clients/.venv/',
      'packages/client/',
      'packages/console/build.mjs',
      'packages/demo/page/',
      'packages/demo/build.mjs',
      'packages/django/',
      'eslint.config.js',
      'ava.config.js',
    ],
  },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // Objects here are closures, made by functions and without `this`: their functions may travel alone.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
    },
  },
  {
    files: ['src/*/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ regex: '^\\.\\./', message: 'This folder is no room yet: ROOMS in eslint.config.js.' }] },
      ],
    },
  },
  ...importZones,
  {
    files: ['src/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            { regex: '^(\\.\\./)+packages/', message: 'src/ builds without packages/ (the demo is loaded by name).' },
          ],
        },
      ],
    },
  },
);
