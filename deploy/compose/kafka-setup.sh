#!/usr/bin/env bash
# The topic, and the rights of the pipeline's account to just what it needs. Waits for the broker; may run again.
set -euo pipefail
bin=${KAFKA_BIN:-/opt/kafka/bin}
broker=${KAFKA_BROKER:-kafka:9092}
topic=${KAFKA_TOPIC:-player.events.raw}
umask 077
admin=$(mktemp)
cat > "$admin" <<END
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="$(cat "${SECRETS_DIR:-/run/secrets}/kafka_admin_password")";
END

"$bin/kafka-topics.sh" --bootstrap-server "$broker" --command-config "$admin" --create --if-not-exists \
    --topic "$topic" --partitions "${KAFKA_PARTITIONS:-3}" --replication-factor 1
allow() { "$bin/kafka-acls.sh" --bootstrap-server "$broker" --command-config "$admin" --add --allow-principal User:gamemetrics "$@"; }
allow --topic "$topic" --operation Describe --operation DescribeConfigs --operation Read --operation Write
allow --group event- --resource-pattern-type prefixed --operation Read --operation Describe
allow --cluster --operation IdempotentWrite
