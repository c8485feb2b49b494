"""The embedded Kafka, PostgreSQL and Valkey, and `gamemetrics run` on top of them.

Nothing of a deployment depends on it, and it needs neither root, nor Docker, nor a Java of the machine's.
"""
