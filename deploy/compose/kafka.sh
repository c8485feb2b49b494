#!/usr/bin/env bash
# One Kafka node (broker and controller) that speaks only SASL/SCRAM-SHA-512, with an authorizer: what the official
# image's own environment variables cannot say, for the accounts must be in the storage before the first start.
set -euo pipefail
bin=${KAFKA_BIN:-/opt/kafka/bin}
data=${KAFKA_DATA:-/var/lib/kafka/data}
inside=${KAFKA_INSIDE:-kafka:9092}      # how containers reach it
outside=${KAFKA_OUTSIDE:-localhost:19092} # how the host reaches it
controller=${KAFKA_CONTROLLER:-127.0.0.1:9093}
secret() { cat "${SECRETS_DIR:-/run/secrets}/$1"; }
umask 077
properties=$(mktemp)

scram() { printf 'org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="%s";' "$(secret kafka_admin_password)"; }
plain() {
    local password
    password=$(secret kafka_controller_password)
    printf 'org.apache.kafka.common.security.plain.PlainLoginModule required username="controller" password="%s" user_controller="%s";' "$password" "$password"
}

cat > "$properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$controller
listeners=INSIDE://0.0.0.0:${inside##*:},OUTSIDE://0.0.0.0:${outside##*:},CONTROLLER://$controller
advertised.listeners=INSIDE://$inside,OUTSIDE://$outside
listener.security.protocol.map=INSIDE:SASL_PLAINTEXT,OUTSIDE:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=INSIDE
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.inside.scram-sha-512.sasl.jaas.config=$(scram)
listener.name.outside.scram-sha-512.sasl.jaas.config=$(scram)
# SCRAM accounts live in the metadata that the controller has yet to serve, so its own listener cannot use them.
listener.name.controller.sasl.enabled.mechanisms=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.plain.sasl.jaas.config=$(plain)
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:admin;User:controller
auto.create.topics.enable=false
log.dirs=$data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
END

"$bin/kafka-storage.sh" format --ignore-formatted --config "$properties" --cluster-id "${KAFKA_CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" \
    --add-scram "SCRAM-SHA-512=[name=admin,password=$(secret kafka_admin_password)]" \
    --add-scram "SCRAM-SHA-512=[name=gamemetrics,password=$(secret kafka_password)]"
exec "$bin/kafka-server-start.sh" "$properties"
