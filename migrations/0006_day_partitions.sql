-- Day partitions that are made and dropped in nobody's way. Until now both locked the ledger against everybody: behind a
-- reader in a long transaction (a dump, a report) they waited for as long as that took, and every COPY behind them.
--
-- A function waits for a lock 200 ms at most, and raises lock_not_available where it is not had: the caller tries again
-- later. It does little at a time, for the locks of a transaction are kept to its end, and the server has room for some
-- thousands of all sessions' together: call it, each time in a transaction of its own, until it returns 0.

-- Every partition of the ledgers with its bounds. Without a relation to deparse for, a bound is printed under no lock:
-- who reads this view neither waits for a partition that is locked nor has one made wait.
CREATE OR REPLACE VIEW day_partitions AS
SELECT i.inhparent::regclass AS parent,
       i.inhrelid::regclass  AS partition,
       (regexp_match(pg_get_expr(c.relpartbound, 0), 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS lower_bound,
       (regexp_match(pg_get_expr(c.relpartbound, 0), 'TO \(''([^'']+)''\)'))[1]::timestamptz   AS upper_bound
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('events'::regclass, 'stats_ledger'::regclass, 'leaderboard_ledger'::regclass);

-- Makes the day partitions of one ledger up to `ahead` days from now, 30 tables at most. The first call also makes
-- <ledger>_past, which takes everything from the year 2000 to `back` days before now: old events are rare, and one table
-- holds them. Days are UTC. Where another session is at it, it does nothing. Returns how many tables it made.
--
-- Made apart and then attached: CREATE TABLE ... PARTITION OF locks the ledger against everybody (ACCESS EXCLUSIVE),
-- ATTACH PARTITION only against other changes of it (SHARE UPDATE EXCLUSIVE), so that COPY and readers go on beside it.
-- What is attached is empty, so nothing is scanned to prove its bounds. A DEFAULT partition would be locked against
-- everybody and scanned; the ledgers have none.
CREATE OR REPLACE FUNCTION make_day_partitions(ledger regclass, ahead integer, back integer DEFAULT 7) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    made    integer := 0;
    today   date := (now() AT TIME ZONE 'UTC')::date;
    name    text := ledger || '_past';
    since   timestamptz := '2000-01-01 00:00+00';
    until   date := today - back;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('make_day_partitions'), ledger::oid::integer) THEN
        RETURN 0;
    END IF;
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = ledger) THEN
        -- Continue after the newest partition there is, so that a pause of any length leaves no hole.
        SELECT max(upper_bound), max(upper_bound)::date + 1 INTO since, until FROM day_partitions WHERE parent = ledger;
        name := ledger || '_' || to_char(since, 'YYYYMMDD');
    END IF;
    WHILE until <= today + ahead + 1 AND made < 30 LOOP
        EXECUTE format('CREATE TABLE %I (LIKE %s INCLUDING ALL)', name, ledger);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', ledger, name, since, until);
        made := made + 1;
        name := ledger || '_' || to_char(until, 'YYYYMMDD');
        since := until;
        until := until + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the oldest partition if it ended more than `keep` days ago; returns how many it dropped, 1 or 0. Where another
-- session is at it, it does nothing.
--
-- To take a partition away locks the ledger against everybody for a moment (DETACH CONCURRENTLY does not, but neither
-- runs in a function nor is it the right of anybody but the owner). Who waits for that lock has everybody wait behind
-- him. So the partition comes first, and without waiting: whoever reads the whole ledger holds a lock on it, too, and is
-- found before the ledger is asked for. An epoch that is late with an event of that day may hold the ledger and wait for
-- the partition meanwhile; the time-out ends that.
CREATE OR REPLACE FUNCTION drop_day_partitions(ledger regclass, keep integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    old regclass;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('drop_day_partitions'), ledger::oid::integer) THEN
        RETURN 0;
    END IF;
    SELECT partition INTO old FROM day_partitions
    WHERE parent = ledger AND upper_bound <= date_trunc('day', now()) - make_interval(days => keep)
    ORDER BY upper_bound LIMIT 1;
    IF old IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', old);
    EXECUTE format('DROP TABLE %s', old);
    RETURN 1;
END $$;
