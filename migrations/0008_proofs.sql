-- What `gamemetrics verify` has proven, so that the next run goes on from there. Nothing but verify writes these tables,
-- and no consumer reads them.

-- Below next_offset every record of a partition has its one fate: admitted, duplicate, or dead letter.
CREATE TABLE pipeline_proofs (
    group_id     text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    topic_id     text        NOT NULL,
    next_offset  bigint      NOT NULL,
    records      bigint      NOT NULL DEFAULT 0,     -- found below next_offset
    dead_letters bigint      NOT NULL DEFAULT 0,     -- of these
    whole        boolean     NOT NULL DEFAULT true,  -- none of them was gone from the log before it was read
    proven_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50);

-- How a group's proof stands, as it was last told.
CREATE TABLE pipeline_proof_state (
    group_id       text        NOT NULL,
    topic          text        NOT NULL,
    state          text        NOT NULL DEFAULT 'begun' CHECK (state IN ('begun', 'good', 'differs')),
    differences    bigint      NOT NULL DEFAULT 0,
    kinds          jsonb       NOT NULL DEFAULT '{}',  -- differences by kind
    behind_records bigint      NOT NULL DEFAULT 0,     -- between what is proven and the watermarks
    checked_at     timestamptz NOT NULL DEFAULT now(),
    level_at       timestamptz,                        -- the snapshot of the last step that reached the watermarks
    swept_to       text COLLATE "C" DEFAULT '',        -- sums of players up to this one are proven; NULL: of all
    rolled_to      jsonb       NOT NULL DEFAULT '{"part": "days"}',  -- where the round over what is old stands
    round_began    timestamptz NOT NULL DEFAULT now(),
    round_seconds  double precision,                   -- how long the last whole round took; NULL: none has ended
    PRIMARY KEY (group_id, topic)
) WITH (fillfactor = 50);

-- Players to look at again: their sums were passed over while consumers were ahead, or something about them differs.
CREATE TABLE pipeline_suspects (
    group_id  text                     NOT NULL,
    topic     text                     NOT NULL,
    player_id varchar(255) COLLATE "C" NOT NULL,
    differs   boolean                  NOT NULL,
    since     timestamptz              NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, player_id)
);

-- Bad records without a dead letter, until one is there.
CREATE TABLE pipeline_suspect_records (
    group_id      text    NOT NULL,
    topic         text    NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint  NOT NULL,
    PRIMARY KEY (group_id, topic, partition, record_offset)
);

-- The proven sums, as of the checkpoints. `contents` is the sum of a hash over the events themselves.
CREATE TABLE proven_counts (
    player_id  varchar(255) COLLATE "C" NOT NULL,
    event_type varchar(100) COLLATE "C" NOT NULL,
    events     bigint                   NOT NULL,
    last_event timestamptz              NOT NULL,
    contents   numeric                  NOT NULL,
    PRIMARY KEY (player_id, event_type)
) WITH (fillfactor = 70);

CREATE TABLE proven_scores (
    game_id    varchar(255) COLLATE "C" NOT NULL,
    player_id  varchar(255) COLLATE "C" NOT NULL,
    day        date                     NOT NULL,
    score      numeric                  NOT NULL,
    PRIMARY KEY (game_id, player_id, day)
) WITH (fillfactor = 70);
