-- The whole schema of the pipeline: the ledger of events, the two projections, the dead letters, the bookkeeping.
-- Text keys compare by bytes (COLLATE "C"): the order Redis uses for ties, and on a locale-aware database a third
-- cheaper to index.

-- -- events ------------------------------------------------------------------------------------------------------

-- One index does three jobs: it is the ledger of identities that makes a repeated event one event, a player's
-- timeline, and a key that holds the partition column and starts with what a distributed PostgreSQL shards by.
CREATE TABLE events (
    event_id        uuid                     NOT NULL,
    event_type      varchar(100) COLLATE "C" NOT NULL,
    player_id       varchar(255) COLLATE "C" NOT NULL,
    game_id         varchar(255) COLLATE "C" NOT NULL,
    event_timestamp timestamptz              NOT NULL,
    ingested_at     timestamptz              NOT NULL,
    data            jsonb                    NOT NULL,
    created_at      timestamptz              NOT NULL DEFAULT now(),
    PRIMARY KEY (player_id, event_timestamp, event_id)
) PARTITION BY RANGE (event_timestamp);

-- BRIN for ranges of time: a few pages a partition, next to nothing at insert.
CREATE INDEX events_time ON events USING brin (event_timestamp);

-- A role that runs without the logger keeps the identities only, in a ledger of its own.
CREATE TABLE stats_ledger (
    player_id       varchar(255) COLLATE "C" NOT NULL,
    event_timestamp timestamptz              NOT NULL,
    event_id        uuid                     NOT NULL,
    PRIMARY KEY (player_id, event_timestamp, event_id)
) PARTITION BY RANGE (event_timestamp);

CREATE TABLE leaderboard_ledger (LIKE stats_ledger INCLUDING ALL) PARTITION BY RANGE (event_timestamp);

-- -- day partitions ----------------------------------------------------------------------------------------------

-- Makes the day partitions of one ledger up to `ahead` days from now. The first call also makes <ledger>_past, which
-- takes everything from the year 2000 to `back` days before now: old events are rare, and one table holds them.
-- Days are UTC. Safe to call from several sessions at once. Returns how many tables it made.
CREATE FUNCTION make_day_partitions(ledger regclass, ahead integer, back integer DEFAULT 7) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    made  integer := 0;
    today date := (now() AT TIME ZONE 'UTC')::date;
    day   date;
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_day_partitions'), ledger::oid::integer);
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = ledger) THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                       ledger || '_past', ledger, '2000-01-01 00:00+00', today - back);
        made := 1;
    END IF;
    -- Continue after the newest partition there is, so that a pause of any length leaves no hole.
    SELECT max(upper_bound)::date INTO day FROM day_partitions WHERE parent = ledger;
    WHILE day <= today + ahead LOOP
        part := ledger || '_' || to_char(day, 'YYYYMMDD');
        EXECUTE format('CREATE TABLE %I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', part, ledger, day, day + 1);
        made := made + 1;
        day := day + 1;
    END LOOP;
    RETURN made;
END $$;

-- Every partition of the ledgers with its bounds. The bounds are read from the catalog, the only place they stand.
CREATE VIEW day_partitions AS
SELECT i.inhparent::regclass AS parent,
       i.inhrelid::regclass  AS partition,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS lower_bound,
       (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz   AS upper_bound
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('events'::regclass, 'stats_ledger'::regclass, 'leaderboard_ledger'::regclass);

-- Drops what ended more than `keep` days ago. Returns how many tables it dropped.
CREATE FUNCTION drop_day_partitions(ledger regclass, keep integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    dropped integer := 0;
    old     regclass;
BEGIN
    FOR old IN SELECT partition FROM day_partitions
               WHERE parent = ledger AND upper_bound <= date_trunc('day', now()) - make_interval(days => keep) LOOP
        EXECUTE format('DROP TABLE %s', old);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- -- statistics --------------------------------------------------------------------------------------------------

-- Nothing that changes is indexed, and pages keep room, so that every increment is a heap-only update.
CREATE TABLE player_event_counts (
    player_id  varchar(255) COLLATE "C" NOT NULL,
    event_type varchar(100) COLLATE "C" NOT NULL,
    events     bigint                   NOT NULL,
    last_event timestamptz              NOT NULL,
    PRIMARY KEY (player_id, event_type)
) WITH (fillfactor = 70);

CREATE VIEW player_statistics AS
SELECT player_id,
       sum(events)::bigint                     AS total_events,
       jsonb_object_agg(event_type, events)    AS event_breakdown,
       max(last_event)                         AS last_event
FROM player_event_counts
GROUP BY player_id;

-- -- leaderboards ------------------------------------------------------------------------------------------------

-- Scores are numeric: a player with a thousand scores of 2^53 must not stop the pipeline by overflowing a bigint.
CREATE TABLE leaderboard_alltime (
    game_id    varchar(255) COLLATE "C" NOT NULL,
    player_id  varchar(255) COLLATE "C" NOT NULL,
    score      numeric                  NOT NULL,
    updated_at timestamptz              NOT NULL,
    PRIMARY KEY (game_id, player_id)
) WITH (fillfactor = 70);

CREATE TABLE leaderboard_daily (
    game_id    varchar(255) COLLATE "C" NOT NULL,
    day        date                     NOT NULL,
    player_id  varchar(255) COLLATE "C" NOT NULL,
    score      numeric                  NOT NULL,
    updated_at timestamptz              NOT NULL,
    PRIMARY KEY (game_id, day, player_id)
) WITH (fillfactor = 70);

-- The period names are the ends of the Redis keys. Rank is the position on the board: score, then player_id, both
-- descending, as ZREVRANGE orders; so no two players share one.
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

-- -- dead letters ------------------------------------------------------------------------------------------------

CREATE TABLE dlq_events (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    original_event   text        NOT NULL,  -- to read: undecodable bytes and NUL are replaced
    error_message    text        NOT NULL,
    consumer_service text        NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    topic            text        NOT NULL,
    partition        integer     NOT NULL,
    record_offset    bigint      NOT NULL,
    record_timestamp timestamptz NOT NULL,
    record_key       bytea,
    record_value     bytea,                 -- to redrive: the bytes as they came; NULL for a tombstone
    redriven_at      timestamptz,
    dropped_at       timestamptz,
    -- The time too, for a topic that is deleted and created again gives its offsets out anew.
    UNIQUE (topic, partition, record_offset, record_timestamp, consumer_service)
);

-- -- bookkeeping -------------------------------------------------------------------------------------------------

-- Where each group stands in each partition: moved only forward, only in the transaction of the effects it covers.
CREATE TABLE pipeline_watermarks (
    group_id      text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    topic_id      text        NOT NULL,
    first_offset  bigint      NOT NULL,
    next_offset   bigint      NOT NULL,
    admitted      bigint      NOT NULL DEFAULT 0,
    duplicates    bigint      NOT NULL DEFAULT 0,
    dead_lettered bigint      NOT NULL DEFAULT 0,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50);

-- Which group may write a projection: a second one is refused, never double-counted.
CREATE TABLE pipeline_owners (
    projection text        PRIMARY KEY,
    group_id   text        NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);

-- What an epoch owes Redis: written in its transaction, applied after it, kept a while for a Redis that fell back.
CREATE TABLE pipeline_outbox (
    group_id    text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    from_offset bigint      NOT NULL,
    next_offset bigint      NOT NULL,
    chunk       integer     NOT NULL,
    chunks      integer     NOT NULL,
    payload     bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition, next_offset, chunk)
);
ALTER TABLE pipeline_outbox ALTER COLUMN payload SET STORAGE EXTERNAL;  -- compressing it costs more than writing it
