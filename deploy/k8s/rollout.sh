#!/usr/bin/env bash
# Rolls an overlay out with kubectl, as far as it goes well:
#     deploy/k8s/rollout.sh OVERLAY [SECONDS]
# The migration first; the new pods wait for it. When it fails, or the new pods do not become available, this says what
# they said and exits 1: the pods of the version before are still there.
set -euo pipefail
cd "$(dirname "$0")"
overlay=${1:?which overlay: dev, prod, prod-hpa or guide}
timeout=${2:-600}
namespace=gamemetrics
manifests=$(mktemp)
trap 'rm -f "$manifests"' EXIT
kubectl kustomize "overlays/$overlay" > "$manifests"

# A Job's template cannot change: the one of the version before makes way, unless it still works.
if kubectl -n $namespace get job pipeline-migrate > /dev/null 2>&1; then
    if [ "$(kubectl -n $namespace get job pipeline-migrate -o 'jsonpath={.status.active}')" ]; then
        echo "a migration is under way; wait for it: kubectl -n $namespace get job pipeline-migrate" >&2
        exit 1
    fi
    kubectl -n $namespace delete job pipeline-migrate
fi

failed() {
    echo "--- $1" >&2
    kubectl -n $namespace get pods -l "$2" -o wide >&2 || true
    kubectl -n $namespace logs -l "$2" --all-containers --tail=20 --prefix >&2 || true
    exit 1
}

kubectl apply -f "$manifests"
# Complete or Failed, whichever comes first: kubectl waits for one condition only.
state() { kubectl -n $namespace get job pipeline-migrate -o 'jsonpath={.status.conditions[?(@.status=="True")].type}'; }
deadline=$((SECONDS + timeout))
until [[ $(state) == *Complete* ]]; do
    [[ $(state) != *Failed* && $SECONDS -lt $deadline ]] ||
        failed "the migration did not complete; the new pods wait, the old ones go on" app=pipeline-migrate
    sleep 1
done
for deployment in $(kubectl -n $namespace get deployments -l 'component in (api, consumer)' -o name); do
    kubectl -n $namespace rollout status "$deployment" --timeout="${timeout}s" ||
        failed "$deployment stopped half-way; its old pods go on. Back: kubectl -n $namespace rollout undo $deployment" \
            "app=${deployment#*/}"
done
