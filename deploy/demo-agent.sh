#!/bin/sh
# Enrols once with the secret that `enrolment` made, then reports by the clock.
set -eu
state=/var/lib/wayleave
export WAYLEAVE_AGENT_STATE_DIR=$state WAYLEAVE_AGENT_CYCLE_S="${WAYLEAVE_AGENT_CYCLE_S:-300}"

until wayleave-agent status >/dev/null 2>&1; do
  # Trusted on first use: this request never leaves the network of these containers.
  if [ -s /enrolment/secret ] && python3 -c '
import pathlib, sys, urllib.request
root = urllib.request.urlopen("http://proxy:8081/root.crt", timeout=5).read()
pathlib.Path(sys.argv[1]).write_bytes(root)' "$state/root.crt" 2>/dev/null; then
    wayleave-agent enrol --server https://proxy --secret-file /enrolment/secret --ca-file "$state/root.crt" && break
  fi
  sleep 2
done
exec wayleave-agent run
