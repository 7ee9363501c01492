/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FILES = {
  browser: ['dist/test/browser/*.test.js'],
  clients: ['dist/test/clients/*.test.js'],
  faults: ['dist/test/faults/*.test.js'],
  django: ['dist/test/django/*.test.js'],
};
const ALL = ['dist/test/**/*.test.js', ...Object.keys(FILES).map((name) => `!dist/test/${name}/**`)];
const suite = process.env['TEST_SUITE'] ?? '';

export default {
  files: FILES[suite] ?? ALL,
  concurrency: 2,
  // Python's own suites are one test each.
  timeout: suite === 'django' ? '180s' : '60s',
};
