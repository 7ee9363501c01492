import test from 'ava';
import { createHistogram } from '../bench/load/histogram.js';
import { markedText, read } from '../bench/load/marker.js';
import { Response } from '../bench/load/response.js';

const EVENTS = [1, 2, 3].map((sequence) => `id: ${sequence}\ndata: @${markedText(7, sequence, 60)}@\n\n`);

function received(chunks: readonly Buffer[]): string[] {
  const log: string[] = [];
  const response = new Response(0, {
    opened: () => log.push('open'),
    refused: (_, status) => log.push(status),
    marked: () => log.push(`${read.lane}:${read.sequence}`),
  });
  for (const chunk of chunks) response.take(chunk);
  return log;
}

function inPieces(text: string, size: number): Buffer[] {
  const bytes = Buffer.from(text);
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size));
}

test('the load generator finds each marker once, however the bytes are cut', (t) => {
  const plain = `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${EVENTS.join('')}`;
  for (let size = 1; size <= plain.length; size += 1) {
    t.deepEqual(received(inPieces(plain, size)), ['open', '7:1', '7:2', '7:3'], `in pieces of ${size}`);
  }
});

test('the load generator takes off chunks, wherever they end', (t) => {
  const body = EVENTS.join('');
  for (let chunk = 1; chunk <= body.length; chunk += 1) {
    const chunks = inPieces(body, chunk).map((piece) => `${piece.length.toString(16)};x=1f\r\n${String(piece)}\r\n`);
    const whole = `HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n${chunks.join('')}0\r\n\r\n`;
    for (const size of [1, 3, 50, whole.length]) {
      t.deepEqual(
        received(inPieces(whole, size)),
        ['open', '7:1', '7:2', '7:3'],
        `chunks of ${chunk}, pieces of ${size}`,
      );
    }
  }
});

test('the load generator says what it was answered instead of a stream', (t) => {
  const [status] = received([Buffer.from('HTTP/1.1 403 Forbidden\r\n\r\n{"error":"forbidden"}')]);
  t.is(status, 'HTTP/1.1 403 Forbidden {"error":"forbidden"}');
});

test('the histogram of the load generator knows percentiles to 3 %', (t) => {
  const histogram = createHistogram();
  t.is(histogram.percentile(0.5), 0);
  for (let microseconds = 1; microseconds <= 1_000_000; microseconds += 1) histogram.add(microseconds);
  for (const part of [0.001, 0.5, 0.99, 0.999]) {
    const ratio = histogram.percentile(part) / (1000 * part);
    t.true(ratio >= 1 && ratio < 1.04, `${part}: ${ratio}`);
  }
  t.is(histogram.percentile(1), 1000);
});
