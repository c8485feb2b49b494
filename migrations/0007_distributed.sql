-- Settling in one statement that a plain PostgreSQL and a distributed one (Citus) both take: INSERT ... ON CONFLICT, with
-- the time as a value, since a distributed one refuses MERGE beside tables of its coordinator and now() in SET. It runs
-- once a day, so what MERGE would spare of it is nothing.

-- As before: settles the days before the day before yesterday (UTC), but not twice in 20 hours and not in the first of a
-- new database: who reads a long backlog into it would settle days that are still to come. A transaction that adds to a
-- day older than yesterday holds `lock` shared (advisory), and this holds it alone, so none adds to a day while that is
-- being settled; and a transaction that took a day for yesterday would have to be a day old for that to be settled under
-- it. One day a call, so that late events wait for no more than that: call it until it returns 0. Returns how many
-- scores it added.
CREATE OR REPLACE FUNCTION settle_boards(lock bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    due     date := current_date - 2;
    before  date;
    since   date;
    settled bigint;
BEGIN
    PERFORM FROM leaderboard_horizon WHERE settled_before < due AND settled_at < now() - interval '20 hours';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(lock);
    SELECT settled_before INTO since FROM leaderboard_horizon WHERE settled_before < due;
    IF NOT FOUND THEN
        RETURN 0;  -- another consumer was here first
    END IF;
    -- A worker of a distributed server may not have committed its part of a transaction that freed the lock: its scores
    -- would be settled by nobody. Then it is left to the next call.
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM FROM run_command_on_workers($q$SELECT count(*) FROM pg_prepared_xacts
                                               WHERE database = current_database() AND gid LIKE 'citus\_%'$q$) AS worker
        WHERE worker.success IS NOT TRUE OR worker.result <> '0';
        IF FOUND THEN
            RETURN 0;
        END IF;
    END IF;
    SELECT coalesce(least(min(day) + 1, due), due) INTO before FROM leaderboard_daily WHERE day >= since AND day < due;
    INSERT INTO leaderboard_settled AS kept (game_id, player_id, score, updated_at)
    SELECT game_id, player_id, sum(score), now() FROM leaderboard_daily
    WHERE day >= since AND day < before GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (game_id, player_id) DO UPDATE
    SET score = kept.score + excluded.score, updated_at = excluded.updated_at;
    GET DIAGNOSTICS settled = ROW_COUNT;
    UPDATE leaderboard_horizon
    SET settled_before = before, settled_at = CASE WHEN before = due THEN now() ELSE settled_at END;
    RETURN settled;
END $$;
