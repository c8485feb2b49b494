-- That Redis was compared is part of the proof: whoever ends between a checkpoint and the comparison leaves it owed.

-- The verifier (a number of its own) whose proven records' keys in Redis are not compared yet; 0: nobody's, so all keys
-- are to be compared, as of a proof that has just begun or was made by the version before; NULL: nothing is owed.
ALTER TABLE pipeline_proof_state ADD COLUMN redis_owed bigint DEFAULT 0;
