"""A game-event pipeline: HTTP in, Kafka in the middle, PostgreSQL and Redis out, every event counted once."""
