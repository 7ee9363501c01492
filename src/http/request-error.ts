/** An answer other than the one that was asked for, and all that the client is told of it. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;
  /** For programs; `message` is for people and says what to do. Neither may quote a credential. */
  readonly code: string;
  /** The channels that it is about. */
  readonly channels: readonly string[] | undefined;
  /** What else the body says. */
  readonly details: object | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** The same request may succeed later: an EventSource is told to come again. */
  readonly temporary: boolean;

  constructor(
    status: number,
    code: string,
    message: string,
    more: {
      channels?: readonly string[];
      details?: object;
      headers?: Readonly<Record<string, string>>;
      temporary?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: more.cause });
    this.status = status;
    this.code = code;
    this.channels = more.channels;
    this.details = more.details;
    this.headers = more.headers ?? {};
    this.temporary = more.temporary ?? false;
  }
}
