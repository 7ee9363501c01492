/**
 * What no client would send, and any may: bytes for any of our ports, with the statuses that they may be answered with.
 *
 * A port that answers none of them, or none of what comes after them, has been ended by one request.
 */
export interface Hostile {
  readonly bytes: string | Buffer;
  /** Where it is not a request that is answered, or may not be, `undefined` is among them. */
  readonly statuses: readonly (number | undefined)[];
}

const get = (target: string, headers = 'Host: localhost\r\n') =>
  `GET ${target} HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`;
const bad = (bytes: string | Buffer): Hostile => ({ bytes, statuses: [400] });
/** Of targets that are valid, and of nothing. */
const nowhere = (bytes: string): Hostile => ({ bytes, statuses: [404] });

const INVALID_TARGETS = [
  '*',
  'x',
  'metrics',
  '?',
  '#',
  '/#',
  '/metrics#x',
  '/healthz#/../x',
  '/\\',
  '/\\metrics',
  '\\metrics',
  '/metrics\\',
  'http://[::1/',
  'http://[::1/metrics',
  'http://',
  'http:///metrics',
  'http://a b/',
  'http://u:p@x/metrics',
  'http://x:y/metrics',
  'http://%zz@/',
  'ftp://x/metrics',
  'javascript:alert(1)',
  '/\u00a0metrics',
  '/metrics\u00a0',
  '/\u00ff',
];

/** Each is one of nothing, though it looks like a path of ours; where there is a proxy in front, it may take it for another. */
const OTHER_SPELLINGS = [
  '//',
  '///',
  '//metrics',
  '//x/metrics',
  '/metrics/',
  '/metrics//',
  '/Metrics',
  '/METRICS',
  '/%6detrics',
  '/metric%73',
  '/./metrics',
  '/x/../metrics',
  '/metrics;x',
  '/metrics%00',
  '/metrics%20',
  '/metrics%2f',
  '/%2fmetrics',
  '/HEALTHZ',
  '/healthz/',
  '/%68ealthz',
  '/Readyz',
  '//readyz',
  '//events',
  '/Outbox-Relay.js',
  '/%',
  '/%zz',
  '/%00',
  '/%ff',
  '/..',
  '/../../etc/passwd',
  '/[::1]',
  `/${'x'.repeat(8_000)}`,
  '/__proto__',
  '/constructor',
];

const named = (name: string, hostile: Hostile): [string, Hostile] => [name, hostile];

export const HOSTILE: ReadonlyMap<string, Hostile> = new Map<string, Hostile>([
  ...INVALID_TARGETS.map((target) => named(`the target ${target}`, bad(Buffer.from(get(target), 'latin1')))),
  ...OTHER_SPELLINGS.map((target) => named(`the target ${target.slice(0, 30)}`, nowhere(get(target)))),
  ['no Host', bad(get('/metrics', ''))],
  ['two Hosts', bad(get('/metrics', 'Host: localhost\r\nHost: y\r\n'))],
  ['the same Host twice', bad(get('/metrics', 'Host: localhost\r\nhOST: x\r\n'))],
  ['two Hosts in HTTP/1.0', bad('GET /metrics HTTP/1.0\r\nHost: localhost\r\nHost: y\r\n\r\n')],
  ['two Hosts and an absolute target', bad(get('http://x/metrics', 'Host: localhost\r\nHost: y\r\n'))],
  ['a Host with a user', bad(get('/metrics', 'Host: u@x\r\n'))],
  ['a Host with a path', bad(get('/metrics', 'Host: x/y\r\n'))],
  ['a Host with blanks', bad(get('/metrics', 'Host: x y\r\n'))],
  ['a Host with a broken port', bad(get('/metrics', 'Host: x:8y\r\n'))],
  ['a Host that is half an address', bad(get('/metrics', 'Host: [::1\r\n'))],
  ['a Host of other bytes', bad(Buffer.from(get('/metrics', 'Host: \u00e9\r\n'), 'latin1'))],
  ['NUL in the target', bad(get('/\0'))],
  ['NUL in a header', bad(get('/metrics', 'Host: localhost\r\nX: \0\r\n'))],
  ['a tab in the target', bad(get('/\tmetrics'))],
  ['a target of more than there may be', { bytes: get(`/${'x'.repeat(100_000)}`), statuses: [431] }],
  ['headers of more than there may be', { bytes: get('/', `X: ${'x'.repeat(100_000)}\r\n`), statuses: [431] }],
  ['many headers', { bytes: get('/nothing', `Host: localhost\r\n${'X: y\r\n'.repeat(1500)}`), statuses: [404, 431] }],
  ['HTTP/0.9', bad('GET /metrics\r\n\r\n')],
  ['HTTP/2', bad('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
  ['HTTP/9.9', bad('GET /metrics HTTP/9.9\r\nHost: localhost\r\n\r\n')],
  ['TLS', bad(Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 1, 2, 3]))],
  ['an unknown method', bad('FROB /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')],
  ['a method in lower case', bad('get /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')],
  ['TRACE', { bytes: 'TRACE /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', statuses: [404, 405] }],
  ['CONNECT', { bytes: 'CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n', statuses: [405] }],
  ['CONNECT and more', { bytes: `CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n${get('/')}`, statuses: [405] }],
  [
    'an upgrade',
    { bytes: get('/nothing', 'Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'), statuses: [404] },
  ],
  [
    'an upgrade to HTTP/2',
    {
      bytes: get('/nothing', 'Host: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade\r\n'),
      statuses: [404],
    },
  ],
  ['an expectation', { bytes: get('/nothing', 'Host: localhost\r\nExpect: the-unexpected\r\n'), statuses: [417] }],
  ['an empty expectation', { bytes: get('/nothing', 'Host: localhost\r\nExpect:\r\n'), statuses: [404] }],
  ['two lengths', bad('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx')],
  ['a length that is none', bad('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e9\r\n\r\nx')],
  ['a length beyond all', bad(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\nx`)],
  [
    'chunks that are none',
    {
      bytes: 'POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n',
      statuses: [undefined, 400, 404, 405],
    },
  ],
  [
    'a chunk beyond all',
    {
      bytes: `POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${'f'.repeat(40)}\r\nx`,
      statuses: [undefined, 400, 404, 405],
    },
  ],
  [
    'a length and chunks',
    bad('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'),
  ],
  ['a header without a name', bad('GET / HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n')],
  ['a header that is folded', bad('GET / HTTP/1.1\r\nHost: localhost\r\n y: z\r\n\r\n')],
  ['a bare CR', bad('GET / HTTP/1.1\rHost: x\r\r')],
  ['Continuation without a request', bad('\r\n\r\n\r\nx')],
  ['a header named __proto__', { bytes: get('/nothing', 'Host: localhost\r\n__proto__: y\r\n'), statuses: [404] }],
]);
