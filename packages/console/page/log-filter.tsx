/** What the log is narrowed by. Times are typed as those of this place, and asked for in UTC. */
import { useEffect, useState } from 'preact/hooks';
import type { LogFilter } from './log-pages.js';

interface LogFilterFormProps {
  readonly filter: LogFilter;
  readonly isFiltered: boolean;
  readonly onChange: (filter: LogFilter) => void;
}

const NONE: LogFilter = { channel: '', event: '', id: '', since: '', until: '' };

/** ISO time to what a field of this type holds, and back. */
function toLocal(iso: string): string {
  const time = Date.parse(iso);
  if (Number.isNaN(time)) return '';
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
const toIso = (local: string): string => (local === '' ? '' : new Date(local).toISOString());

const FIELDS = [
  ['channel', 'Channel', 'all'],
  ['event', 'Event name', 'all'],
  ['id', 'Id', 'any'],
] as const;

export function LogFilterForm({ filter, isFiltered, onChange }: LogFilterFormProps) {
  const [draft, setDraft] = useState(filter);
  useEffect(() => setDraft(filter), Object.values(filter));
  const set = (name: keyof LogFilter, value: string) => setDraft((before) => ({ ...before, [name]: value }));
  return (
    <form
      class="filters panel"
      role="search"
      aria-label="Narrow the log"
      onSubmit={(event) => {
        event.preventDefault();
        onChange({ ...draft, channel: draft.channel.trim(), event: draft.event.trim(), id: draft.id.trim() });
      }}
    >
      {FIELDS.map(([name, label, placeholder]) => (
        <label key={name} class="field">
          <span class="label">{label}</span>
          <input
            name={name}
            value={draft[name]}
            placeholder={placeholder}
            inputMode={name === 'id' ? 'numeric' : 'text'}
            pattern={name === 'id' ? '\\s*\\d*\\s*' : undefined}
            title={name === 'id' ? 'Digits' : undefined}
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            onInput={({ currentTarget }) => set(name, currentTarget.value)}
          />
        </label>
      ))}
      {(['since', 'until'] as const).map((name) => (
        <label key={name} class="field">
          <span class="label">{name === 'since' ? 'From' : 'Until'}</span>
          <input
            type="datetime-local"
            step="1"
            name={name}
            value={toLocal(draft[name])}
            onInput={({ currentTarget }) => set(name, toIso(currentTarget.value))}
          />
        </label>
      ))}
      <div class="buttons">
        <button type="submit" class="primary">
          Search
        </button>
        {isFiltered && (
          <button type="button" onClick={() => onChange(NONE)}>
            Clear
          </button>
        )}
      </div>
    </form>
  );
}
