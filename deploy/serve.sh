#!/bin/sh
# Migrates as soon as the database answers, then serves.
set -eu
attempt=0
until wayleave db upgrade; do
  attempt=$((attempt + 1))
  [ "$attempt" -lt 30 ] || exit 1
  echo "the database is not ready yet; trying again in 2 s" >&2
  sleep 2
done
exec wayleave serve --host 0.0.0.0 --port 8000
