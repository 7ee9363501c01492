/**
 * The form that signs in: with the password, or with a token that is kept in this page's memory
 * alone.
 */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ApiError, SignIn } from './api.js';
import { typed } from './form.js';
import { signInWith } from './session.js';

interface SignInViewProps {
  readonly signIn: SignIn;
  readonly reason: string | undefined;
}

export function SignInView({ signIn, reason }: SignInViewProps) {
  const [error, setError] = useState<string | undefined>();
  const [isBusy, setBusy] = useState(false);
  const [kind, setKind] = useState<'password' | 'token'>(signIn.password ? 'password' : 'token');
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    document.title = 'Sign in · outbox-relay console';
  }, []);
  useEffect(() => field.current?.focus(), [kind]);

  async function submit(form: HTMLFormElement): Promise<void> {
    setBusy(true);
    setError(undefined);
    try {
      await signInWith(kind, typed(form, 'secret'));
    } catch (cause) {
      setError((cause as ApiError).message);
      setBusy(false);
      field.current?.select();
    }
  }

  return (
    <main class="alone" id="main">
      <form
        class="panel sign-in"
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <p class="product">outbox-relay</p>
        <h1>Console</h1>
        {reason && <p class="notice">{reason}</p>}
        {signIn.password && signIn.token && (
          <fieldset class="choice">
            <legend class="unseen">Sign in with</legend>
            {(['password', 'token'] as const).map((value) => (
              <label key={value}>
                <input type="radio" name="kind" checked={kind === value} onChange={() => setKind(value)} />
                {value === 'password' ? 'Password' : 'Token'}
              </label>
            ))}
          </fieldset>
        )}
        <label class="field">
          <span class="label">{kind === 'password' ? 'Password' : 'Token'}</span>
          <input
            ref={field}
            key={kind}
            type="password"
            name="secret"
            required
            autocomplete={kind === 'password' ? 'current-password' : 'off'}
            aria-describedby={error === undefined ? 'sign-in-hint' : 'sign-in-error'}
            aria-invalid={error !== undefined}
          />
        </label>
        {error !== undefined && (
          <p id="sign-in-error" class="error" role="alert">
            {error}
          </p>
        )}
        <p id="sign-in-hint" class="hint">
          {kind === 'password'
            ? 'The value of CONSOLE_PASSWORD.'
            : 'One whose claim opens the console. It stays in this page and is gone when you reload.'}
        </p>
        <button type="submit" class="primary" disabled={isBusy}>
          {isBusy ? 'Signing in…' : 'Sign in'}
        </button>
      </form>
    </main>
  );
}
