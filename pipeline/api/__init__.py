"""The HTTP edge: events in, statistics and leaderboards out.

Events go to Kafka and nowhere else. Redis is written by `access` and `refusals` alone, PostgreSQL by `console` alone:
its audit, and that a dead letter was redriven or dropped. Nothing here adds to a statistic or a board.
"""
