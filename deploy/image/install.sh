#!/bin/sh
# Installs the service alone (no embedded servers, no tests, no pip) from the source in the current directory into a
# virtual environment at $1, by the lock files beside this script. The Dockerfile runs it.
set -eu
target=$1
here=$(dirname "$0")

python3 -m venv "$target"
"$target/bin/python" -m pip install --quiet --no-cache-dir --require-hashes \
    -r "$here/requirements.lock" -r "$here/build.lock"
"$target/bin/python" -m pip install --quiet --no-cache-dir --no-deps --no-build-isolation .
# What installs things is not part of what runs.
"$target/bin/python" -m pip uninstall --quiet --yes setuptools pip
# The root file system is read-only later: byte code is made now or at every start.
"$target/bin/python" -m compileall -q "$target/lib"
