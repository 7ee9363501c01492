/** The page's requests to the relay, the streams aside. What goes wrong comes back as a sentence to show. */

/** Returns the JSON answer. Throws an Error whose message says what to do. */
export async function post(path, body) {
  let response;
  try {
    response = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  } catch (cause) {
    throw new Error('The relay does not answer. When it runs again, repeat this.', { cause });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? `The relay answered with status ${response.status}.`);
  return answer;
}

/**
 * Says why the relay refuses the stream at `url`. EventSource keeps the status and the body of a refusal to itself, so
 * this asks once more in a way that can read them.
 */
export async function explainRefusal(url) {
  const attempt = new AbortController();
  let message = 'EventSource gives up after any status but 200.';
  try {
    const response = await fetch(url, { signal: attempt.signal });
    if (!response.ok) message = (await response.json()).message ?? message;
  } catch {
    message = 'The relay does not answer.';
  } finally {
    attempt.abort();
  }
  return message;
}
