/**
 * Why a request is refused, for the operator: what mostly stands behind each code that a client is
 * told, and what ends it.
 */
import type { NotedRefusal } from './question.js';

interface Explained {
  readonly cause: string;
  readonly cure: string;
}

/** All codes: a test holds them against what the relay can answer. */
export const CAUSES: Readonly<Record<string, Explained>> = {
  bad_request: {
    cause:
      'The bytes are no HTTP request as it has to be: a broken client, a scanner, or TLS spoken to a port without it.',
    cure: 'Where it is your own client or proxy, see that it speaks HTTP/1.1 and encodes its addresses.',
  },
  unexpected_body: {
    cause: 'A request for events came with a body, as fetch() sends it with POST data.',
    cure: 'Put channels and cursor into the address, and send no body.',
  },
  no_channel: {
    cause: 'The address names no channel.',
    cure: 'Ask for /events?channel=NAME. A template that fills in an empty name does this, too.',
  },
  too_many_channels: {
    cause: 'One stream names more channels than MAX_CHANNELS allows.',
    cure: 'Subscribe to a prefix such as user:*, or raise MAX_CHANNELS.',
  },
  bad_channel: {
    cause: 'A name is asked for that no channel can have: empty, too long, with control characters, or with * amid it.',
    cure: 'See how the page makes the name. A prefix is written user:*, and all channels *.',
  },
  bad_event: {
    cause: 'event= has a name that no event can have.',
    cure: 'See how the page makes the name; leave event= out for all events.',
  },
  too_many_events: {
    cause: 'event= is given more often than one request may.',
    cure: 'Leave event= out, and let the page choose.',
  },
  bad_format: {
    cause: 'format= is neither data nor envelope.',
    cure: 'Leave it out for data, or write format=envelope.',
  },
  bad_since: {
    cause: 'since= is no time: mostly a + of the time zone that was not encoded, as %2B.',
    cure: 'Give an ISO time in UTC, as 2026-01-31T12:00:00Z, or milliseconds since 1970.',
  },
  bad_limit: { cause: 'limit= is no whole number in its bounds.', cure: 'Give one from 1 to 1000.' },
  bad_wait: { cause: 'wait= is no whole number in its bounds.', cure: 'Give seconds from 0 to 60.' },
  not_found: {
    cause: 'Nothing is at that path: a wrong path in the page or in the proxy, or a scanner.',
    cure: 'Streams are at /events. Where a proxy cuts off a prefix or adds one, see its configuration.',
  },
  method_not_allowed: {
    cause: 'The path is right, and the method is not: mostly a POST, to publish.',
    cure: 'Publish by an INSERT into the outbox. Streams are read with GET.',
  },
  expectation_failed: { cause: 'The client sent a header Expect.', cure: 'Turn it off in the client.' },
  headers_too_large: {
    cause: 'Address and headers are longer than MAX_HEADER_KILOBYTES: mostly cookies, or very many channels.',
    cure: 'Raise MAX_HEADER_KILOBYTES, or have the page send less.',
  },
  request_timeout: {
    cause: 'The request was not complete within REQUEST_TIMEOUT_SECONDS: a slow client, or one that only connects.',
    cure: 'Where clients are slow, raise REQUEST_TIMEOUT_SECONDS. A proxy that opens connections in advance is no trouble.',
  },
  unauthorized: {
    cause:
      'A channel that is not public was asked for without a token, or a page of the console without having signed in.',
    cure: 'See that the page sends the token or the cookie (AUTH_COOKIE), and that the cookie reaches this host.',
  },
  invalid_token: {
    cause: 'The token is not good: signed with another key, for another issuer or audience, or no token at all.',
    cure: 'Try it under Token. Mostly the application and the relay have different keys.',
  },
  expired_token: {
    cause: 'The token has expired: the page came back with an old one, or clocks differ.',
    cure: 'Have the page fetch a fresh token before it connects again, or set JWT_CLOCK_TOLERANCE_SECONDS.',
  },
  forbidden: {
    cause: 'The token is good, and does not list what was asked for.',
    cure: 'Have the application list the channel, or a prefix of it, in the claim (JWT_CHANNELS_CLAIM); the message names the channels.',
  },
  foreign_origin: {
    cause: 'A page of another origin used the cookies here.',
    cure: 'If it is yours, name its origin in ALLOWED_ORIGINS; * does not name it. Behind a proxy, see that it passes on Host.',
  },
  denied: {
    cause: 'The application refused, when it was asked (FORWARD_AUTH_URL).',
    cure: "The application's log says why. Mostly its session has ended.",
  },
  auth_unavailable: {
    cause: 'Nobody could say who it is: FORWARD_AUTH_URL or JWKS_URL does not answer, or not in time.',
    cure: 'See that the address can be reached from the relay, and answers in FORWARD_AUTH_TIMEOUT_SECONDS.',
  },
  auth_busy: {
    cause: 'More clients wait for the application to say who they are than it can answer.',
    cure: 'They come back by themselves. Raise FORWARD_AUTH_CACHE_SECONDS, or use tokens, which are verified here.',
  },
  too_many_connections: {
    cause:
      'There are as many connections as there may be: of the relay (503), or from one address or of one user (429).',
    cure: 'See Connections for whose they are. Raise MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS or MAX_CONNECTIONS_PER_SUBJECT; behind a proxy set TRUST_PROXY.',
  },
  database_unavailable: {
    cause: 'A page of history could not be read: the database does not answer.',
    cure: 'Clients ask again by themselves. See the database, and the log of the relay for what it said.',
  },
  too_many_attempts: {
    cause: 'Somebody failed to sign in to the console many times.',
    cure: 'Wait, or bring a token. Where it was not you, keep /console from strangers at the proxy.',
  },
  console_busy: {
    cause: 'The console is open on as many pages, or has as many questions at a time, as it may.',
    cure: 'Close other pages of it.',
  },
  database_away: {
    cause: 'The console could not read the table: the database does not answer in time.',
    cure: 'Try again. Where only filters fail, choose a channel, which has an index, or a shorter time.',
  },
  unknown_event: {
    cause: 'The console was asked for an event that is not in the table.',
    cure: 'Its message says what may have become of it.',
  },
  bad_parameter: {
    cause: 'The console was asked with a value that it has no use for.',
    cure: 'The message says which.',
  },
  bad_json: {
    cause: 'A request brought a body that is not the JSON that it has to be.',
    cure: 'The message says which.',
  },
  too_large: { cause: 'A request brought a body that is larger than it may be.', cure: 'Send less.' },
  foreign_host: {
    cause: 'The demo was asked by another name than that of loopback.',
    cure: 'Open it as http://localhost or http://127.0.0.1.',
  },
  refused: { cause: 'The outbox refused what the demo was to publish.', cure: 'The message has the rule.' },
  bad_count: { cause: 'The demo was asked for a burst of no size that there could be.', cure: 'Give 1 to 1000.' },
};

const UNKNOWN: Explained = { cause: 'It is not known here.', cure: 'The message may say it.' };

/** A refusal as it is shown. */
export function withCause(refusal: NotedRefusal): NotedRefusal & Explained {
  const known = Object.hasOwn(CAUSES, refusal.code) ? CAUSES[refusal.code] : undefined;
  return { ...refusal, ...(known ?? UNKNOWN) };
}
