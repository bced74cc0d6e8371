#!/bin/sh
# venv.sh: the Python environment of the end-to-end tests in .venv: Debian's packages and what
# tests/requirements.txt names.  Quick when it is there already.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-/usr/bin/python3}
if cmp -s tests/requirements.txt .venv/requirements.txt; then exit 0; fi
rm -rf .venv
"$python" -m venv --system-site-packages .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
cp tests/requirements.txt .venv/requirements.txt
