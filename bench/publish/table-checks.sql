-- The first draft of table.sql: the same rules as table checks instead of domains. Only base1 and S were measured on it.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channel text COLLATE "C" NOT NULL,
  event text COLLATE "C" NOT NULL DEFAULT 'message',
  data jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  position bigint,
  CONSTRAINT outbox_channel_length_1_to_255 CHECK (char_length(channel) BETWEEN 1 AND 255),
  CONSTRAINT outbox_channel_no_control_characters CHECK (channel !~ '[\x01-\x1f\x7f-\x9f]'),
  CONSTRAINT outbox_channel_no_asterisk CHECK (strpos(channel, '*') = 0),
  CONSTRAINT outbox_event_length_1_to_255 CHECK (char_length(event) BETWEEN 1 AND 255),
  CONSTRAINT outbox_event_no_control_characters CHECK (event !~ '[\x01-\x1f\x7f-\x9f]'),
  CONSTRAINT outbox_event_prefix_stream_is_reserved CHECK (event NOT LIKE 'stream-%'),
  CONSTRAINT outbox_data_at_most_16_mib CHECK (pg_column_size(data) <= 16 * 1024 * 1024)
);
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE INDEX outbox_channel_position ON outbox (channel, position) WHERE position IS NOT NULL;
CREATE INDEX outbox_created_at ON outbox USING brin (created_at) WITH (autosummarize = on);
CREATE SEQUENCE outbox_position_seq;
