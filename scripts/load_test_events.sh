#!/usr/bin/env bash
# The guide's name for `gamemetrics load`: ./scripts/load_test_events.sh COUNT [RATE], at RATE events a second.
# PORT or --url say where the API is; further options are passed on.
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
    echo "usage: $0 COUNT [RATE] [option of gamemetrics load ...]" >&2
    exit 2
fi
gamemetrics="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/gamemetrics"
[[ -x $gamemetrics ]] || gamemetrics=gamemetrics
count=$1
shift
rate=()
if [[ $# -gt 0 && $1 != -* ]]; then
    rate=(--rate "$1")
    shift
fi
exec "$gamemetrics" load "$count" ${rate[@]+"${rate[@]}"} "$@"
