"""Kafka as the pipeline uses it: what every client shares, the source, the producer, the topic.

Nothing else opens a client of Kafka, but `local`, which sets its own server up; nothing here knows what an event is.
"""
