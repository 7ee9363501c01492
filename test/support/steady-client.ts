/**
 * Clients as they should be: one that stays and comes back with its cursor, and one that reads until it has what it came for.
 */
import http from 'node:http';

const RETRY_MS = 200;
const BEAT = /"beat": ?(\d+)/g;
const ID = /^id: (.+)$/gm;
/** A beat that is cut in two by the border of a chunk is whole with so many characters of the one before. */
const OVERLAP = 40;

/** Stays until it is closed. @param onBeat called with the number of each event that arrives, perhaps twice. */
export function openClient(
  url: string,
  path: string,
  onBeat: (beat: number) => void,
): { readonly opened: Promise<void>; close(): void } {
  let cursor = '';
  let isClosed = false;
  let current: http.ClientRequest | undefined;
  let isOpen: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (isOpen = resolve));

  function connect(): void {
    if (isClosed) return;
    const headers = { Accept: 'text/event-stream', ...(cursor === '' ? {} : { 'Last-Event-ID': cursor }) };
    let isOver = false;
    const again = () => {
      if (isOver) return;
      isOver = true;
      if (!isClosed) setTimeout(connect, RETRY_MS);
    };
    const request = http.get(`${url}${path}`, { agent: false, headers }, (response) => {
      let tail = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const text = tail + chunk;
        for (const [, beat] of text.matchAll(BEAT)) onBeat(Number(beat));
        for (const [, id] of text.matchAll(ID)) cursor = id ?? cursor;
        if (text.includes('stream-open')) isOpen();
        tail = text.slice(-OVERLAP);
      });
      response.on('close', again);
      response.on('error', () => undefined);
    });
    current = request;
    request.on('error', again);
  }

  connect();
  return {
    opened,
    close() {
      isClosed = true;
      current?.destroy();
    },
  };
}

/** Resolves with how many milliseconds it took until an answer 200 held the text; with `patience` where none did. */
export function readUntil(
  url: string,
  path: string,
  headers: http.OutgoingHttpHeaders,
  wanted: string,
  patience: number,
): Promise<number> {
  const began = performance.now();
  return new Promise((resolve) => {
    const request = http.get(`${url}${path}`, { agent: false, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (response.statusCode !== 200 || !text.includes(wanted)) return;
        over(performance.now() - began);
      });
      response.on('error', () => undefined);
      response.on('close', () => over(patience));
    });
    const timer = setTimeout(() => over(patience), patience);
    function over(took: number): void {
      clearTimeout(timer);
      request.destroy();
      resolve(took);
    }
    request.on('error', () => over(patience));
  });
}
