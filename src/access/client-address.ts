/**
 * The client's address: that of the connection, or the one that trusted proxies tell.
 */
import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';
import { withoutBlanks } from './blanks.js';

/** Whom an address stands for. */
export interface Counted {
  readonly key: string;
  /** Of the Internet. Behind a private one may be a proxy, and all its clients. */
  readonly isPublic: boolean;
}

/**
 * Every proxy adds the address that it was asked from at the end of `X-Forwarded-For`, behind
 * whatever the client made up. So with `proxies` of them in front it is that many from the end;
 * where fewer have told one, it is the first.
 *
 * @param proxies how many proxies in front are trusted; 0: nobody is believed.
 */
export function clientAddress(request: IncomingMessage, proxies: number): string {
  const own = request.socket.remoteAddress ?? '';
  if (proxies === 0) return own;
  // Node joins the lines of several headers in their order.
  const told = String(request.headers['x-forwarded-for'] ?? '').split(',');
  return withoutPort(withoutBlanks(told.at(-Math.min(proxies, told.length)) ?? '')) || own;
}

/** In IPv6 a whole /64, which is what one customer has. */
export function counted(address: string): Counted {
  // What a proxy could not name, as `unknown` (RFC 7239, section 6.3), is one address like any
  // other.
  if (!ipaddr.isValid(address)) return { key: address.slice(0, 64), isPublic: true };
  const parsed = ipaddr.process(address);
  const isPublic = parsed.range() === 'unicast';
  if (parsed instanceof ipaddr.IPv6) return { key: parsed.parts.slice(0, 4).join(':'), isPublic };
  return { key: parsed.toString(), isPublic };
}

/** Some proxies add the port, as in `203.0.113.7:4711` and `[2001:db8::1]:4711`. */
function withoutPort(address: string): string {
  return /^\[([^\]]*)\](?::\d*)?$/.exec(address)?.[1] ?? /^([\d.]+):\d+$/.exec(address)?.[1] ?? address;
}
