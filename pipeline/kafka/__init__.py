"""Kafka as the pipeline uses it: what every client shares, the source, the producer, the topic.

Nothing else opens a client of Kafka; nothing here knows what an event is.
"""
