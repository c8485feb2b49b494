#!/bin/sh
# Makes the passwords of compose.yaml, once, beside it; git does not see them. Files are readable by the containers'
# users, the directory only by you.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
for name in kafka_admin_password kafka_controller_password kafka_password db_password redis_password api_keys grafana_password; do
    [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name"
    chmod 644 "secrets/$name"
done
echo "secrets/ is complete; an API key to send with: $(pwd)/secrets/api_keys"
