"""The embedded Kafka, PostgreSQL and Valkey of `gamemetrics local`."""
