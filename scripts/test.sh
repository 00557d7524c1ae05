#!/usr/bin/env bash
# Set up and run the tests: bash scripts/test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

prepare_environment requirements-dev.txt
# By itself: its own list asks for a second OpenCV package.
"$ENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps 'trackers>=2.6'
# Tests start many processes, which would all translate the modules again.
unset PYTHONDONTWRITEBYTECODE
# One process per core, each on one thread; a file's tests stay together because they share what is slow to build.
export OMP_NUM_THREADS=1
"$ENV_PYTHON" -m pytest --numprocesses auto --dist loadfile "$@"
