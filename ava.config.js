/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FILES = {
  browser: ['dist/test/browser/*.test.js'],
  all: ['dist/test/**/*.test.js', '!dist/test/browser/**'],
};

export default {
  files: process.env['TEST_SUITE'] === 'browser' ? FILES.browser : FILES.all,
  concurrency: 2,
  timeout: '60s',
};
