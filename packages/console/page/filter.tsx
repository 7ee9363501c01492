/** The field that narrows a view to a channel, which applies when it is left or sent. */
import { useEffect, useState } from 'preact/hooks';

interface ChannelFilterProps {
  readonly value: string;
  readonly label?: string;
  readonly onChange: (value: string) => void;
}

export function ChannelFilter({ value, label = 'Channel', onChange }: ChannelFilterProps) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <form
      class="filter"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        onChange(text.trim());
      }}
    >
      <label class="field">
        <span class="label">{label}</span>
        <input
          name="channel"
          value={text}
          placeholder="all"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
      </label>
      <button type="submit">Show</button>
      {value !== '' && (
        <button type="button" onClick={() => onChange('')}>
          All
        </button>
      )}
    </form>
  );
}
