-- Why a record is a dead letter, for programs: `invalid` breaks the contract, `uncovered` is of a day that no partition
-- holds, `refused` is what PostgreSQL would not take, `internal` met a fault of the pipeline's own. Letters that are there
-- already were told apart by their sentence alone, and none was `internal`. The default is for consumers of the version
-- before, which still write while this one rolls out.
ALTER TABLE dlq_events ADD COLUMN code text NOT NULL DEFAULT 'invalid';

UPDATE dlq_events SET code = 'uncovered' WHERE error_message LIKE 'timestamp: no partition holds it;%';
UPDATE dlq_events SET code = 'refused' WHERE error_message LIKE 'PostgreSQL refused the event:%';
