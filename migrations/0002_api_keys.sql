-- The API keys of the edge. Only the hash of a secret is kept; every replica reads this table every two seconds.

CREATE TABLE api_keys (
    id                text             PRIMARY KEY,
    name              text             NOT NULL CHECK (name ~ '^[A-Za-z0-9_.-]{1,100}$'),
    secret_sha256     bytea            NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    scopes            text[]           NOT NULL CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['write', 'read']),
    games             text[]           CHECK (cardinality(games) > 0),  -- NULL: every game
    events_per_second double precision CHECK (events_per_second >= 0),  -- NULL: RATE_LIMIT_RPS; 0: no limit
    bytes_per_second  double precision CHECK (bytes_per_second >= 0),   -- NULL: RATE_LIMIT_BYTES_PER_SECOND; 0: no limit
    created_at        timestamptz      NOT NULL DEFAULT now(),
    revoked_at        timestamptz
);

-- A name is a rate limit's account and what logs say; a revoked key leaves its name to the next.
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;
