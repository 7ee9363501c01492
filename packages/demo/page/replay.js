/**
 * Decides which of a stream's first events are replay. The wire does not mark them: to the relay, live and replay are
 * one path. A stream that resumes behind the head replays until the head's id has passed, or, as the head may be on a
 * channel that is not subscribed to, until the stream falls quiet.
 */

const REPLAY_QUIET_MS = 400;

/** Calls `onEnd` once with the number of replayed events; at once, during this call, where `from` is the head. */
export function watchReplay({ from, head, onEnd }) {
  let replayed = 0;
  let replaying = from !== head;
  let timer;

  function end() {
    clearTimeout(timer);
    replaying = false;
    onEnd(replayed);
  }
  function waitForQuiet() {
    clearTimeout(timer);
    timer = setTimeout(end, REPLAY_QUIET_MS);
  }
  if (replaying) waitForQuiet();
  else end();

  return {
    /** Takes the next event of the stream. Returns true where it is replayed. */
    take(id) {
      if (!replaying) return false;
      replayed += 1;
      if (id === head) end();
      else waitForQuiet();
      return true;
    },
    stop() {
      if (replaying) end();
    },
  };
}
