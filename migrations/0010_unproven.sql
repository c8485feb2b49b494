-- What a proof could not recount, by reason: `records` (offsets that were gone from the log before they were read) and
-- `sums` (1: of days that were dropped they cannot be).
ALTER TABLE pipeline_proof_state ADD COLUMN unproven jsonb NOT NULL DEFAULT '{}';

-- What was proven of the player is not there any more.
ALTER TABLE pipeline_suspects ADD COLUMN changed boolean NOT NULL DEFAULT false;

-- Watermarks that somebody set back or deleted, so that what was booked before, or is booked again, is no difference.
CREATE TABLE pipeline_resets (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    group_id      text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    topic_id      text        NOT NULL,
    was_offset    bigint      NOT NULL,  -- next_offset until then
    next_offset   bigint,                -- and since; NULL: the row was deleted
    admitted      bigint      NOT NULL,  -- booked until then
    duplicates    bigint      NOT NULL,
    dead_lettered bigint      NOT NULL
);

-- What is undone by hand, with nothing booked in between, is forgotten. A consumer never sets a mark back; it moves one
-- forward without booking anything only past offsets that hold no record.
CREATE FUNCTION note_reset() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND NEW.next_offset < OLD.next_offset THEN
        INSERT INTO pipeline_resets (group_id, topic, partition, topic_id, was_offset, next_offset, admitted,
                                     duplicates, dead_lettered)
        VALUES (OLD.group_id, OLD.topic, OLD.partition, OLD.topic_id, OLD.next_offset,
                CASE WHEN TG_OP = 'UPDATE' THEN NEW.next_offset END, OLD.admitted, OLD.duplicates, OLD.dead_lettered);
    ELSE
        DELETE FROM pipeline_resets AS undone
        WHERE (undone.group_id, undone.topic, undone.partition) = (NEW.group_id, NEW.topic, NEW.partition)
          AND undone.topic_id = NEW.topic_id AND undone.was_offset = NEW.next_offset
          AND undone.next_offset IS NULL = (TG_OP = 'INSERT')
          AND (undone.admitted, undone.duplicates, undone.dead_lettered)
            = (NEW.admitted, NEW.duplicates, NEW.dead_lettered);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER watermark_deleted AFTER DELETE ON pipeline_watermarks
    FOR EACH ROW EXECUTE FUNCTION note_reset();
CREATE TRIGGER watermark_put_back AFTER INSERT ON pipeline_watermarks
    FOR EACH ROW WHEN (NEW.next_offset > NEW.first_offset) EXECUTE FUNCTION note_reset();
CREATE TRIGGER watermark_set_back AFTER UPDATE OF next_offset ON pipeline_watermarks
    FOR EACH ROW WHEN (NEW.next_offset < OLD.next_offset OR NEW.next_offset > OLD.next_offset
        AND (NEW.admitted, NEW.duplicates, NEW.dead_lettered) = (OLD.admitted, OLD.duplicates, OLD.dead_lettered))
    EXECUTE FUNCTION note_reset();

-- Of the records of a proof: those that a watermark set back let be booked again, and the dead letters of other logs in
-- between, which a topic that was created again brings.
ALTER TABLE pipeline_proofs
    ADD COLUMN records_again bigint NOT NULL DEFAULT 0,
    ADD COLUMN dead_letters_again bigint NOT NULL DEFAULT 0,
    ADD COLUMN foreign_letters bigint NOT NULL DEFAULT 0;

ALTER TABLE pipeline_suspect_records ADD COLUMN record_timestamp timestamptz;
