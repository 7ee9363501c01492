import { readdirSync, readFileSync } from 'node:fs';

/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FOLDERS = ['heavy', 'model', 'browser', 'clients', 'django', 'faults', 'nats'];
const filesIn = (folder) => [`dist/test/${folder}/*.test.js`];
const LIGHT = ['dist/test/**/*.test.js', ...FOLDERS.map((folder) => `!dist/test/${folder}/**`)];

/**
 * Files that say nothing of the oldest PostgreSQL: they start the newest, as the demo does; what they test is the same on any, as
 * the relay's memory is, and who may open the console; or the suite `faults` has it on both.
 */
const OF_ANY_SERVER = [
  'demo',
  ...['hostile', 'live', 'refusals', 'rights', 'workers'].map((name) => `console-${name}`),
  ...['backpressure', 'budget', 'clients', 'doctor-server', 'embedded', 'fuzz', 'names', 'ports', 'workers'].map(
    (name) => `heavy/${name}`,
  ),
];
/** The same of those that have no part in a database. */
const isWithoutDatabase = (path) =>
  !/support\/(?:database|names|postgres-stage|engine-stage)\.js/.test(readFileSync(`test/${path}.test.ts`, 'utf8'));
const filesOfOldest = () =>
  ['', 'heavy/'].flatMap((folder) =>
    readdirSync(`test/${folder}`)
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `${folder}${name.slice(0, -'.test.ts'.length)}`)
      .filter((path) => !OF_ANY_SERVER.includes(path) && !isWithoutDatabase(path))
      .map((path) => `dist/test/${path}.test.js`),
  );
const suite = process.env['TEST_SUITE'] ?? '';

function files() {
  if (suite === 'oldest') return filesOfOldest();
  return FOLDERS.includes(suite) ? filesIn(suite) : LIGHT;
}

export default {
  files: files(),
  concurrency: 2,
  require: ['./dist/test/support/unfinished.js'],
  // Mocked timers are stable from Node 23 on: what earlier versions say of them is nobody's worry.
  nodeArguments: ['--disable-warning=ExperimentalWarning'],
  // Python's own suites are one test each.
  timeout: suite === 'django' ? '180s' : '60s',
};
