"""Checks against a PostgreSQL with Citus: `make citus-check DB_HOST=...`, never in CI, for no registry brings one.

DB_HOST, DB_PORT, DB_USER and DB_PASSWORD lead a superuser to the coordinator; DB_NAME (default postgres) is a database
there that knows the workers. The check makes a database of its own, there and at each worker, and drops it after. Kafka
and Valkey are the embedded ones.
"""
