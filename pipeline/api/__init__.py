"""The HTTP edge: events in, statistics and leaderboards out."""
