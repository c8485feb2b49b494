-- What a proof could not recount, by reason: `records` (offsets that were gone from the log before they were read) and
-- `sums` (1: of days that were dropped they cannot be).
ALTER TABLE pipeline_proof_state ADD COLUMN unproven jsonb NOT NULL DEFAULT '{}';

-- What was proven of the player is not there any more.
ALTER TABLE pipeline_suspects ADD COLUMN changed boolean NOT NULL DEFAULT false;
