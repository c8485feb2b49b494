"""The HTTP edge: events in, statistics and leaderboards out.

It writes to Kafka and to nothing else; of the consumer it knows the contract and no table of its own.
"""
