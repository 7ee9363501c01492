/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FILES = {
  browser: ['dist/test/browser/*.test.js'],
  django: ['dist/test/django/*.test.js'],
  all: ['dist/test/**/*.test.js', '!dist/test/browser/**', '!dist/test/django/**'],
};
const suite = process.env['TEST_SUITE'] || 'all';

export default {
  files: FILES[suite],
  concurrency: 2,
  // Python's own suites are one test each.
  timeout: suite === 'django' ? '180s' : '60s',
};
