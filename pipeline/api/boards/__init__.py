"""Reads: statistics and leaderboards, from Redis with PostgreSQL behind it.

Nothing here writes.
"""
