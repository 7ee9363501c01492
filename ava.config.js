/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FOLDERS = ['heavy', 'browser', 'clients', 'django', 'faults'];
const filesIn = (folder) => [`dist/test/${folder}/*.test.js`];
const LIGHT = ['dist/test/**/*.test.js', ...FOLDERS.map((folder) => `!dist/test/${folder}/**`)];

/** Files that say nothing of PostgreSQL: the oldest has no part in them, or they start a server of their own. */
const OF_ANY_SERVER = ['doctor-server', 'embedded', 'ports', 'workers', 'fuzz', 'clients'].map(
  (name) => `!dist/test/heavy/${name}.test.js`,
);
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
