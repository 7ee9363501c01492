/** Channel patterns (`orders`, `user:*`, `*`) as the page reads them. Which ones are valid is the relay's to say. */

/** Splits what the channel field holds, at spaces and commas. */
export function parseChannels(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

/** Says whether one of `patterns` takes in `channel`. */
export function covers(patterns, channel) {
  return patterns.some(
    (pattern) =>
      pattern === '*' || pattern === channel || (pattern.endsWith(':*') && channel.startsWith(pattern.slice(0, -1))),
  );
}
