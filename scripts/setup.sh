#!/bin/sh
# Find a Python that the pinned requirements support, and let it do the set-up (scripts/set_up.py).
# Version managers leave launchers on PATH that only print an error, so a candidate is run, not merely found.
cd "$(dirname "$0")/.." || exit 1

supported='import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))'
without_venv=
for candidate in ${MAKE_PYTHON:-.venv/bin/python python3.11 python3.12 python3}; do
    "$candidate" -c "$supported" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        exec "$candidate" -m scripts.set_up
    fi
    without_venv=$candidate
done

if [ -n "$without_venv" ]; then
    echo "set-up: $without_venv has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv) and run make again." >&2
else
    found=$("${MAKE_PYTHON:-python3}" --version 2>/dev/null) || found=none
    echo "set-up: Python 3.11 or 3.12 is needed, ${MAKE_PYTHON:-python3} is: ${found}; install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name one with make setup MAKE_PYTHON=/path/to/python3.11." >&2
fi
exit 1
