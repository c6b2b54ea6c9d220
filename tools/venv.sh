#!/usr/bin/env bash
# Makes the virtual environment: tools/venv.sh DIR [PYTHON]. Says in a sentence what is missing where it cannot.
set -euo pipefail

dir=$1
wanted=${2:-}

recent_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ -x "$dir/bin/python" ] && recent_enough "$dir/bin/python" && "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
  exit 0
fi

python=
for candidate in ${wanted:+"$wanted"} python3 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null 2>&1 && recent_enough "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  found=$(python3 --version 2>/dev/null || echo "no python3 at all")
  echo "Wayleave needs Python 3.11 or newer; this machine has $found. Install one, or name it: make PYTHON=/path/to/python3.13" >&2
  exit 1
fi

rm -rf "$dir"
if "$python" -c 'import ensurepip' 2>/dev/null; then
  "$python" -m venv "$dir"
elif "$python" -m pip --version >/dev/null 2>&1 && "$python" -m venv --without-pip "$dir" 2>/dev/null; then
  # Debian splits ensurepip off; a pip outside the environment can still put one inside.
  "$python" -m pip --quiet --python "$dir/bin/python" install --disable-pip-version-check pip
elif command -v uv >/dev/null 2>&1; then
  uv venv --quiet --seed --python "$("$python" -c 'import sys; print(sys.executable)')" "$dir"
else
  echo "$python cannot make virtual environments here: its venv or ensurepip module is missing." \
    "On Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
fi
