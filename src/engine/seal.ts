/**
 * The seal around all that feeders and relays send each other: the version of the format, and a
 * digest.
 *
 *     format (4) │ digest (32) │ body
 *
 * By SHA-256 it tells what was cut or changed on its way; by HMAC with a secret that feeders and
 * relays share, also what somebody else has made.
 */
import { createHash, createHmac, timingSafeEqual, type KeyObject } from 'node:crypto';

export interface Seal {
  /**
   * @param body in parts.
   * @param about what the body is for, such as a question that it answers: no other opens it.
   */
  close(body: readonly Uint8Array[], about?: Uint8Array): Buffer;
  /** The body, in the same memory; undefined: it was changed, or is another's. */
  open(bytes: Uint8Array, about?: Uint8Array): Buffer | undefined;
}

/** Changes with every change of what is in a body: none is taken for what it is not. */
const FORMAT = Buffer.from('OBX1');
const DIGEST_BYTES = 32;
const BODY_AT = FORMAT.length + DIGEST_BYTES;

const NOTHING = new Uint8Array();

/** @param secret undefined: whoever can send is believed. */
export function createSeal(secret?: KeyObject): Seal {
  const digestOf = (about: Uint8Array, body: Uint8Array): Buffer =>
    (secret ? createHmac('sha256', secret) : createHash('sha256')).update(about).update(body).digest();

  return {
    close(body, about = NOTHING) {
      const bytes = Buffer.concat([FORMAT, Buffer.alloc(DIGEST_BYTES), ...body]);
      digestOf(about, bytes.subarray(BODY_AT)).copy(bytes, FORMAT.length);
      return bytes;
    },
    open(given, about = NOTHING) {
      const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
      if (bytes.length < BODY_AT || !bytes.subarray(0, FORMAT.length).equals(FORMAT)) return undefined;
      const body = bytes.subarray(BODY_AT);
      return timingSafeEqual(bytes.subarray(FORMAT.length, BODY_AT), digestOf(about, body)) ? body : undefined;
    },
  };
}
