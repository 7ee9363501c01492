/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FOLDERS = ['heavy', 'browser', 'clients', 'django', 'faults'];
const filesIn = (folder) => [`dist/test/${folder}/*.test.js`];
const LIGHT = ['dist/test/**/*.test.js', ...FOLDERS.map((folder) => `!dist/test/${folder}/**`)];

/** Files that say nothing of the oldest PostgreSQL: they have no part in any, or start the newest, as the demo does. */
const OF_ANY_SERVER = [
  'demo',
  ...['doctor-server', 'embedded', 'ports', 'workers', 'fuzz', 'clients'].map((name) => `heavy/${name}`),
].map((path) => `!dist/test/${path}.test.js`);
const suite = process.env['TEST_SUITE'] ?? '';

function files() {
  if (suite === 'oldest') return ['dist/test/*.test.js', ...filesIn('heavy'), ...OF_ANY_SERVER];
  return FOLDERS.includes(suite) ? filesIn(suite) : LIGHT;
}

export default {
  files: files(),
  concurrency: 2,
  // Mocked timers are stable from Node 23 on: what earlier versions say of them is nobody's worry.
  nodeArguments: ['--disable-warning=ExperimentalWarning'],
  // Python's own suites are one test each.
  timeout: suite === 'django' ? '180s' : '60s',
};
