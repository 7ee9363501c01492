import tseslint from 'typescript-eslint';

/**
 * Rooms of src/, each with the rooms that it may import from, all of which stand above it: so there is no circle. What is
 * not named here, relay.ts and main.ts, connects them and may import from all; operator-error.ts imports nothing.
 */
const ROOMS = {
  event: [],
  postgres: ['event', 'operator-error'],
  outbox: ['event', 'postgres'],
  feed: ['event', 'postgres/retry', 'outbox'],
  stream: ['event', 'postgres/retry', 'outbox', 'feed'],
  access: ['event'],
  metrics: ['outbox', 'feed', 'stream'],
  http: ['event', 'access', 'stream', 'metrics'],
  config: ['event', 'postgres', 'access', 'operator-error'],
  admin: ['postgres', 'operator-error'],
  cli: ['event', 'postgres', 'access', 'metrics', 'http', 'config', 'admin', 'relay', 'operator-error'],
};

const importZones = Object.entries(ROOMS).map(([room, allowed]) => ({
  files: [`src/${room}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            // `./` is the room itself, as is `../roles.js` from admin/doctor.
            regex: `^(\\.\\./)+(?!\\.\\./|(${[...allowed, room === 'admin' ? 'roles' : '-'].join('|')})(/|\\.js|$))`,
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
      '.data/',
      'node_modules/',
      'examples/',
      'test/clients/node/',
      'test/clients/.venv/',
      'packages/client/',
      'packages/demo/page/',
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
