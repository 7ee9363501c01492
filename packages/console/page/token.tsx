/** The view that tries a token: what it may read, until when, and why not. */
import { useEffect, useState } from 'preact/hooks';
import { post, type ApiError, type TokenTrial } from './api.js';
import { parseChannels, typed } from './form.js';
import { want } from './live.js';
import { Ago, Failure, Moment, View } from './parts.js';
import { Text } from './visible.js';

export function TokenView() {
  useEffect(() => want({ views: [] }), []);
  const [trial, setTrial] = useState<TokenTrial | undefined>();
  const [error, setError] = useState<ApiError | undefined>();
  const [isBusy, setBusy] = useState(false);

  async function tryOut(form: HTMLFormElement): Promise<void> {
    setBusy(true);
    setError(undefined);
    try {
      setTrial(
        await post<TokenTrial>('token', {
          token: typed(form, 'token'),
          channels: parseChannels(typed(form, 'channels')),
        }),
      );
    } catch (cause) {
      setTrial(undefined);
      setError(cause as ApiError);
    } finally {
      setBusy(false);
    }
  }

  return (
    <View title="Token" lead="Paste a token to see what it may read here, until when, and why not. It is not kept.">
      <form
        class="panel form"
        onSubmit={(event) => {
          event.preventDefault();
          void tryOut(event.currentTarget);
        }}
      >
        <label class="field">
          <span class="label">Token</span>
          <textarea name="token" rows={4} required autocomplete="off" autocapitalize="off" spellcheck={false} />
        </label>
        <label class="field">
          <span class="label">
            Channels <span class="hint">separated by spaces; none: all that it names</span>
          </span>
          <input
            name="channels"
            placeholder="orders user:42"
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
          />
        </label>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isBusy}>
            {isBusy ? 'Trying…' : 'Try it'}
          </button>
        </div>
      </form>
      <div role="status">{trial && <Verdict trial={trial} />}</div>
      {error && <Failure error={error} />}
    </View>
  );
}

function Verdict({ trial: { verdict, reasons, channels, expiresAt, console: opens } }: { readonly trial: TokenTrial }) {
  const isGood = verdict === 'good';
  return (
    <section class="panel" aria-labelledby="verdict-title">
      <h2 id="verdict-title">
        <span class={`badge ${isGood ? 'is-good' : 'is-bad'}`}>{verdict}</span>{' '}
        {isGood ? 'The relay takes this token' : 'The relay does not take this token'}
      </h2>
      <ul class="checks">
        {reasons.map(({ ok, text }) => (
          <li key={text} class={ok ? 'is-good' : 'is-bad'}>
            <span class="unseen">{ok ? 'Good: ' : 'Bad: '}</span>
            <Text value={text} />
          </li>
        ))}
      </ul>
      <dl class="pairs">
        <div>
          <dt>May read</dt>
          <dd class="channels">
            {channels.length === 0 && 'no channel'}
            {channels.map((channel) => (
              <code key={channel}>
                <Text value={channel} />
              </code>
            ))}
          </dd>
        </div>
        <div>
          <dt>Expires</dt>
          <dd>
            {expiresAt === null ? (
              'never, or it does not say'
            ) : (
              <>
                <Moment at={expiresAt} /> (<Ago at={expiresAt} />)
              </>
            )}
          </dd>
        </div>
        <div>
          <dt>Console</dt>
          <dd>{opens ? 'It opens this console, too.' : 'It does not open this console.'}</dd>
        </div>
      </dl>
    </section>
  );
}
