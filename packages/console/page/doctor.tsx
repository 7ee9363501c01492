/** The view of what the doctor finds in the database and the configuration. */
import { useEffect } from 'preact/hooks';
import { request, type Doctor, type Severity } from './api.js';
import { counted } from './format.js';
import { want } from './live.js';
import { Ago, Failure, Loading, View, useLoaded } from './parts.js';
import { Text } from './visible.js';

const ORDER: readonly Severity[] = ['error', 'warning', 'note', 'ok'];
const NAMES: Readonly<Record<Severity, readonly [badge: string, one: string]>> = {
  error: ['Error', 'error'],
  warning: ['Warning', 'warning'],
  note: ['Note', 'note'],
  ok: ['In order', 'point in order'],
};
const KINDS: Readonly<Record<Severity, string>> = {
  error: 'is-bad',
  warning: 'is-odd',
  note: 'is-note',
  ok: 'is-good',
};

export function DoctorView() {
  useEffect(() => want({ views: [] }), []);
  const { value, error, isLoading, reload } = useLoaded('doctor', (signal) => request<Doctor>('doctor', { signal }));
  const findings = ORDER.flatMap(
    (severity) => value?.findings.filter((finding) => finding.severity === severity) ?? [],
  );
  const sums = ORDER.flatMap((severity) => {
    const n = findings.filter((finding) => finding.severity === severity).length;
    const [, one] = NAMES[severity];
    return n === 0 ? [] : [counted(n, one, one.startsWith('point') ? 'points in order' : `${one}s`)];
  });
  return (
    <View
      title="Doctor"
      lead={
        value ? (
          <>
            <span role="status">{sums.join(', ') || 'Nothing found'}</span>; looked <Ago at={value.at} />.
          </>
        ) : (
          'Looks at the database, the table and the configuration.'
        )
      }
      actions={
        <button type="button" onClick={reload} disabled={isLoading}>
          {isLoading ? 'Looking…' : 'Look again'}
        </button>
      }
    >
      {!value && isLoading && <Loading what="what the doctor finds" />}
      {error && <Failure error={error} onRetry={reload} />}
      {findings.length > 0 && (
        <ul class="findings">
          {findings.map(({ severity, title, consequence, fix }) => (
            <li key={`${severity} ${title}`} class="panel finding">
              <span class={`badge ${KINDS[severity]}`}>{NAMES[severity][0]}</span>
              <div>
                <h2>
                  <Text value={title} />
                </h2>
                {consequence && (
                  <p>
                    <Text value={consequence} lines />
                  </p>
                )}
                {fix && (
                  <p class="fix">
                    <b>What to do:</b> <Text value={fix} lines />
                  </p>
                )}
              </div>
            </li>
          ))}
        </ul>
      )}
    </View>
  );
}
