"""The trail of one event: what is known of it in Kafka, PostgreSQL and Redis, and what that says became of it.

It only reads, and decides nothing about a record. No HTTP and no command line here: the API and the command ask.
"""
