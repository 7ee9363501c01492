-- Up Migration

-- Each event leaves two dead rows: one when it is placed, one when it is pruned. By default vacuum comes when a fifth of the
-- table is dead, and by that much it is then too large; here it comes at a twentieth. Measured (bench/vacuum.md), a table
-- in steady use is 7 % and not 17 % larger than its rows, and publishing no slower, as far as noise lets one tell.
--
-- Left as they are:
-- - fillfactor: placing changes an indexed column, so its UPDATE is never HOT, and room kept for it would stay empty.
-- - outbox_pending: it is nearly empty, so vacuum comes as often as it can, and takes back what a long transaction has left.
--   That it locks the table for this was not to be seen in what publishers wait.
-- - outbox_floor: stays at one page.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);

-- Down Migration

ALTER TABLE outbox RESET (autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_scale_factor);
