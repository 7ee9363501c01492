/** How many connections are in which state, as a bar and in words. */
import type { Overview } from './api.js';
import { count } from './format.js';

export function StateShare({
  connections: { total, live: alive, catchingUp, stalled },
}: Pick<Overview, 'connections'>) {
  const parts = [
    ['live', 'Live', alive],
    ['catching-up', 'Catching up', catchingUp],
    ['stalled', 'Stalled', stalled],
  ] as const;
  let x = 0;
  return (
    <>
      <svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect class="share-none" width="100" height="4" />
        {parts.map(([kind, , n]) => {
          const width = total === 0 ? 0 : (n / total) * 100;
          const rect = <rect key={kind} class={`share-${kind}`} x={x} width={width} height="4" />;
          x += width;
          return rect;
        })}
      </svg>
      <ul class="legend">
        {parts.map(([kind, name, n]) => (
          <li key={kind} class={`state-${kind}`}>
            {name} <b>{count(n)}</b>
          </li>
        ))}
      </ul>
    </>
  );
}
