/**
 * Whether this page may see the console.
 *
 * | state      | and then                                                          |
 * |------------|-------------------------------------------------------------------|
 * | asking     | in, out, off; away, where nobody answers, which asks again         |
 * | in         | out, when the right has ended or one signs out; off                |
 * | out        | in, by password or token                                           |
 * | off        | asks again now and then: the relay may be started with it          |
 */
import { type ApiError, post, request, setToken, whenUnauthorized, type Session, type SignIn } from './api.js';
import { createStore } from './store.js';

interface SessionState {
  readonly state: 'asking' | 'in' | 'out' | 'off' | 'away';
  readonly session?: Session;
  readonly signIn: SignIn;
  /** Why one is out, where it is not the beginning. */
  readonly reason?: string | undefined;
}

const ASK_AGAIN_MS = 2000;

export const sessionStore = createStore<SessionState>({ state: 'asking', signIn: { password: true, token: true } });

let timer: ReturnType<typeof setTimeout> | undefined;

/** Finds out; where nobody answers, again and again. */
export async function askSession(): Promise<void> {
  clearTimeout(timer);
  try {
    sessionStore.set({ state: 'in', session: await request<Session>('session'), reason: undefined });
  } catch (error) {
    const { status, signIn } = error as ApiError;
    if (status === 401) sessionStore.set({ state: 'out', ...(signIn ? { signIn } : {}) });
    else {
      sessionStore.set({ state: status === 404 ? 'off' : 'away' });
      timer = setTimeout(() => void askSession(), ASK_AGAIN_MS);
    }
  }
}

/** The relay says that the right is not there any more. */
export function endSession({ signIn }: Pick<ApiError, 'signIn'>): void {
  if (sessionStore.get().state !== 'in') return;
  setToken(undefined);
  sessionStore.set({
    state: 'out',
    reason: 'Your right to the console has ended. Sign in again to go on where you were.',
    ...(signIn ? { signIn } : {}),
  });
}

/** @throws ApiError */
export async function signInWith(kind: 'password' | 'token', secret: string): Promise<void> {
  if (kind === 'password') await post('../session', { password: secret });
  else setToken(secret);
  try {
    const session = await request<Session>('session');
    sessionStore.set({ state: 'in', session, reason: undefined });
  } catch (error) {
    setToken(undefined);
    throw error;
  }
}

export async function signOut(): Promise<void> {
  setToken(undefined);
  const failed = await request('../session', { method: 'DELETE' }).then(
    () => undefined,
    (error: unknown) => error as ApiError,
  );
  sessionStore.set({
    state: 'out',
    reason: failed
      ? `The relay could not be told (${failed.message}) This browser may still have its cookie: sign out again later.`
      : 'You have signed out.',
  });
}

whenUnauthorized(endSession);
