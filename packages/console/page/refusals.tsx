/**
 * The view of requests that the relay refused: what was asked, why it was refused, and what to do.
 */
import { useEffect } from 'preact/hooks';
import type { Refusal } from './api.js';
import { count, counted } from './format.js';
import { live, want } from './live.js';
import { Ago, Empty, Loading, View } from './parts.js';
import { useStore } from './store.js';
import { Text } from './visible.js';

export function RefusalsView() {
  useEffect(() => want({ views: [] }), []);
  const refusals = useStore(live, (state) => state.refusals);
  const isThere = useStore(live, (state) => state.hasRefusals);
  return (
    <View title="Refusals" lead="Requests that the relay did not grant, the newest first, with what to do about each.">
      {!isThere && refusals.length === 0 && <Loading what="refusals" />}
      {isThere && refusals.length === 0 && (
        <Empty title="Nothing was refused">
          Whoever asks for a channel without a right to it, or in a wrong way, shows up here.
        </Empty>
      )}
      {refusals.length > 0 && (
        <>
          <p class="fine">{counted(refusals.length, 'entry', 'entries')}; equal ones in a row are counted.</p>
          <ol class="refusals">
            {refusals.map((refusal) => (
              <RefusalItem key={refusal.n} refusal={refusal} />
            ))}
          </ol>
        </>
      )}
    </View>
  );
}

function RefusalItem({ refusal }: { readonly refusal: Refusal }) {
  const { status, code, message, cause, cure, method, path, address, origin, at, count: times } = refusal;
  return (
    <li class="panel refusal">
      <header>
        <span class={`badge ${status >= 500 ? 'is-bad' : 'is-odd'}`}>{status}</span>
        <h2>
          <code>
            <Text value={code} />
          </code>
        </h2>
        {times > 1 && <span class="badge">{count(times)} times</span>}
        <span class="when">
          <Ago at={at} />
        </span>
      </header>
      <p class="said">
        <Text value={message} />
      </p>
      <dl class="pairs">
        <div>
          <dt>Cause</dt>
          <dd>
            <Text value={cause} />
          </dd>
        </div>
        <div>
          <dt>What to do</dt>
          <dd>
            <Text value={cure} />
          </dd>
        </div>
        <div>
          <dt>Request</dt>
          <dd>
            <code>
              <Text value={`${method} ${path}`} />
            </code>{' '}
            from <Text value={address} />
            {origin !== null && (
              <>
                , page of <Text value={origin} />
              </>
            )}
          </dd>
        </div>
      </dl>
    </li>
  );
}
