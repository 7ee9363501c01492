/**
 * Where the page is: `#/log?channel=orders` is the view `log` with the channel. The address is the
 * only state of it.
 */
import { useEffect, useState } from 'preact/hooks';

export interface Route {
  readonly view: string;
  /** What follows the view: an event's id. */
  readonly item: string | undefined;
  readonly query: URLSearchParams;
}

export type Query = Readonly<Record<string, string | undefined>>;

export function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [view = '', item] = path.split('/').map(decode);
  return { view: view || 'overview', item, query: new URLSearchParams(query) };
}

/** What cannot be decoded is taken as it is. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a view, without what is empty in the query. */
export function href(view: string, query: Query = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => Boolean(entry[1]));
  const search = new URLSearchParams(given).toString();
  return `#/${view}${search === '' ? '' : `?${search}`}`;
}

export function navigate(view: string, query: Query = {}): void {
  location.hash = href(view, query);
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const follow = () => setRoute(parseRoute(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return route;
}
