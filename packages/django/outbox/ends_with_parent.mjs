/**
 * Preloaded into a relay that runs beside `runserver`: ends it in good order when its standard input does. That is a pipe from
 * Django, which the system closes however Django ends.
 */
process.stdin.on('end', end);
process.stdin.on('error', end);
process.stdin.resume();
// It keeps no relay alive that has ended by itself.
process.stdin.unref();

function end() {
  process.kill(process.pid, 'SIGTERM');
}
