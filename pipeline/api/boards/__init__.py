"""Reads: statistics and leaderboards, from Redis with PostgreSQL behind it, and the trail of an event.

Nothing here writes.
"""
