-- The table every variant starts from: the shipped columns, rules and indexes, and no trigger.
CREATE DOMAIN outbox_channel AS text COLLATE "C"
  CONSTRAINT outbox_channel_length_1_to_255 CHECK (char_length(VALUE) BETWEEN 1 AND 255)
  CONSTRAINT outbox_channel_no_control_characters CHECK (VALUE !~ '[\x01-\x1f\x7f-\x9f]')
  CONSTRAINT outbox_channel_no_asterisk CHECK (strpos(VALUE, '*') = 0);
CREATE DOMAIN outbox_event AS text COLLATE "C"
  CONSTRAINT outbox_event_length_1_to_255 CHECK (char_length(VALUE) BETWEEN 1 AND 255)
  CONSTRAINT outbox_event_no_control_characters CHECK (VALUE !~ '[\x01-\x1f\x7f-\x9f]')
  CONSTRAINT outbox_event_prefix_stream_is_reserved CHECK (VALUE NOT LIKE 'stream-%');
CREATE DOMAIN outbox_data AS jsonb
  CONSTRAINT outbox_data_at_most_16_mib CHECK (pg_column_size(VALUE) <= 16 * 1024 * 1024);
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channel outbox_channel NOT NULL,
  event outbox_event NOT NULL DEFAULT 'message',
  data outbox_data,
  created_at timestamptz NOT NULL DEFAULT now(),
  position bigint
);
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE INDEX outbox_channel_position ON outbox (channel, position) WHERE position IS NOT NULL;
CREATE INDEX outbox_created_at ON outbox USING brin (created_at) WITH (autosummarize = on);
CREATE SEQUENCE outbox_position_seq;
