-- What the console of the API needs: a scope for those who may change things, who changed what and why, an index that
-- counts the dead letters which wait, and what the last epoch of a partition was.

ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_check;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_check
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['write', 'read', 'admin']);

-- Written in the statement that does what it tells of; nothing updates or deletes its rows.
CREATE TABLE pipeline_audit (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  text        NOT NULL,  -- a key's name, with whom a trusted proxy named before it; or "loopback"
    action text        NOT NULL,
    reason text        NOT NULL,
    what   jsonb       NOT NULL,  -- what was asked for: ids, or a code
    count  bigint      NOT NULL   -- how much of it was done
);

CREATE INDEX dlq_events_waiting ON dlq_events (code, id) WHERE redriven_at IS NULL AND dropped_at IS NULL;

-- How many records the last epoch that moved this mark had, and what made it due. NULL after a consumer of the version
-- before, which still writes while this one rolls out.
ALTER TABLE pipeline_watermarks ADD COLUMN epoch_events integer, ADD COLUMN epoch_trigger text;
