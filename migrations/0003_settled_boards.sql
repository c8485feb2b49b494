-- The all-time board becomes a sum: of days that are settled, kept as one row a player, and of the days since. An epoch
-- then writes each score to its day only; a day is added to the settled scores once, when it is three days old, and not
-- in every epoch again.

ALTER TABLE leaderboard_alltime RENAME TO leaderboard_settled;
ALTER INDEX leaderboard_alltime_pkey RENAME TO leaderboard_settled_pkey;

-- One row: every day before settled_before is in leaderboard_settled.
CREATE TABLE leaderboard_horizon (
    settled_before date        NOT NULL,
    settled_at     timestamptz NOT NULL DEFAULT now(),
    singleton      boolean     PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO leaderboard_horizon (settled_before) SELECT coalesce(max(day) + 1, '-infinity') FROM leaderboard_daily;

DROP VIEW leaderboards;

CREATE VIEW leaderboard_alltime AS
SELECT game_id, player_id, sum(score) AS score, max(updated_at) AS updated_at
FROM (SELECT game_id, player_id, score, updated_at FROM leaderboard_settled
      UNION ALL
      SELECT game_id, player_id, score, updated_at
      FROM leaderboard_daily JOIN leaderboard_horizon ON day >= settled_before) AS parts
GROUP BY game_id, player_id;

CREATE VIEW leaderboards AS
WITH scores AS (
    SELECT game_id, player_id, 'alltime' AS period, score, updated_at FROM leaderboard_alltime
    UNION ALL
    SELECT game_id, player_id, 'daily:' || to_char(day, 'YYYY-MM-DD'), score, updated_at FROM leaderboard_daily
    UNION ALL
    SELECT game_id, player_id, 'weekly:' || to_char(day, 'IYYY-"W"IW'), sum(score), max(updated_at)
    FROM leaderboard_daily GROUP BY 1, 2, 3
)
SELECT game_id, player_id, period,
       row_number() OVER (PARTITION BY game_id, period ORDER BY score DESC, player_id DESC) AS rank,
       score, updated_at
FROM scores;

-- Settles the days before the day before yesterday (UTC), but not twice in 20 hours and not in the first of a new
-- database: who reads a long backlog into it would settle days that are still to come. A transaction that adds to a day older than yesterday holds
-- `lock` shared (advisory), and this holds it alone, so none adds to a day while that is being settled; and a
-- transaction that took a day for yesterday would have to be a day old for that to be settled under it.
-- Returns how many scores it added.
CREATE FUNCTION settle_boards(lock bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    before  date := current_date - 2;
    since   date;
    settled bigint;
BEGIN
    PERFORM FROM leaderboard_horizon WHERE settled_before < before AND settled_at < now() - interval '20 hours';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(lock);
    SELECT settled_before INTO since FROM leaderboard_horizon WHERE settled_before < before;
    IF NOT FOUND THEN
        RETURN 0;  -- another consumer was here first
    END IF;
    MERGE INTO leaderboard_settled AS kept
    USING (SELECT game_id, player_id, sum(score) AS score FROM leaderboard_daily
           WHERE day >= since AND day < before GROUP BY 1, 2 ORDER BY 1, 2) AS added
       ON kept.game_id = added.game_id AND kept.player_id = added.player_id
    WHEN MATCHED THEN UPDATE SET score = kept.score + added.score, updated_at = now()
    WHEN NOT MATCHED THEN INSERT (game_id, player_id, score, updated_at)
                          VALUES (added.game_id, added.player_id, added.score, now());
    GET DIAGNOSTICS settled = ROW_COUNT;
    UPDATE leaderboard_horizon SET settled_before = before, settled_at = now();
    RETURN settled;
END $$;
