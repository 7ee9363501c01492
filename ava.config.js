/** Suites share the runner, test/run.ts, which names the one that it wants. */
const FILES = {
  browser: ['dist/test/browser/*.test.js'],
  faults: ['dist/test/faults/*.test.js'],
};
const ALL = ['dist/test/**/*.test.js', ...Object.keys(FILES).map((name) => `!dist/test/${name}/**`)];

export default {
  files: FILES[process.env['TEST_SUITE']] ?? ALL,
  concurrency: 2,
  timeout: '60s',
};
