/** Why a client gets no stream. HTTP chooses the status (src/http/errors.ts). */
export type DenialCode =
  /** It brought nothing by which it may read what it asked for. */
  | 'unauthorized'
  | 'invalid_token'
  | 'expired_token'
  /** It is known, and may not read all that it asked for. */
  | 'forbidden'
  /** Its cookies came from a page of another origin. */
  | 'foreign_origin'
  /** The application refused, in its own words: see `Denied.answer`. */
  | 'denied'
  /** What decides could not be asked. */
  | 'auth_unavailable'
  | 'auth_busy'
  /** There are as many connections as there may be: altogether, from its address, of its user. */
  | 'relay_full'
  | 'address_full'
  | 'subject_full';

/** The application's own refusal, to be passed on as it is. */
export interface ApplicationAnswer {
  readonly status: 401 | 403;
  readonly contentType: string;
  readonly body: Buffer;
}

export interface DenialDetails {
  /** The channels that it is about. */
  readonly channels?: readonly string[];
  readonly answer?: ApplicationAnswer;
  readonly cause?: unknown;
}

export class Denied extends Error {
  override readonly name = 'Denied';
  /** For programs; `message` is for people and says what to do. Neither may quote a credential. */
  readonly code: DenialCode;
  readonly channels: readonly string[] | undefined;
  readonly answer: ApplicationAnswer | undefined;

  constructor(code: DenialCode, message: string, { channels, answer, cause }: DenialDetails = {}) {
    super(message, { cause });
    this.code = code;
    this.channels = channels;
    this.answer = answer;
  }
}
