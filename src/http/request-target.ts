/**
 * Target: what a request asks for, and of which host. One spelling of each resource is taken and
 * every other refused, so that what a proxy in front lets through or keeps back by its path is what
 * is answered here.
 *
 * Source: RFC 9112, sections 3.2 (the target's forms, Host) and 3.2.2 (in absolute form its
 * authority counts, not Host).
 */
import type { IncomingMessage } from 'node:http';
import type Koa from 'koa';
import { RequestError } from './request-error.js';

/** A path and a query of visible ASCII, without a fragment or a backslash. */
const ORIGIN_FORM = /^\/[!-~]*$/;
const FOREIGN = /#|^[^?]*\\/;
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]+)(.*)$/i;
/** RFC 3986, section 3.2.2, without what names a user. */
const HOST = /^(?:\[[\da-f:.]+\]|[\w\-.~!$&'()*+,;=%]*)(?::\d{0,5})?$/i;

/** Refuses what has no target or Host that could be, and turns the absolute form into the other. */
export const requireTarget: Koa.Middleware = async ({ req: request }, next) => {
  if (request.httpVersionMajor !== 1) throw new RequestError(400, 'bad_request', 'Only HTTP/1.1 is spoken here.');
  if (request.headers.host === undefined && request.httpVersion === '1.1') {
    throw new RequestError(400, 'bad_request', 'A request in HTTP/1.1 has a header "Host".');
  }
  if (hosts(request) > 1) throw new RequestError(400, 'bad_request', 'A request has one header "Host".');
  const [, authority, rest = ''] = ABSOLUTE_FORM.exec(request.url ?? '') ?? [];
  if (authority !== undefined) {
    request.headers.host = authority;
    request.url = rest.startsWith('/') ? rest : `/${rest}`;
  }
  if (!HOST.test(request.headers.host ?? '')) {
    throw new RequestError(400, 'bad_request', 'The host that is asked is not valid.');
  }
  const { url = '' } = request;
  if (!ORIGIN_FORM.test(url) || FOREIGN.test(url)) {
    throw new RequestError(400, 'bad_request', 'The address is not valid: check its percent-encoding.');
  }
  await next();
};

/** How many there are: `headers` has the first alone. */
function hosts({ rawHeaders }: IncomingMessage): number {
  let count = 0;
  for (let n = 0; n < rawHeaders.length; n += 2) if (rawHeaders[n]?.toLowerCase() === 'host') count += 1;
  return count;
}
