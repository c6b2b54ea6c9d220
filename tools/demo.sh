#!/usr/bin/env bash
# `make demo`: a made fleet and a login for it, once; says the login every time. BIN names the environment's programs.
set -euo pipefail
: "${BIN:?}" "${WAYLEAVE_DATA_DIR:?}"
umask 077

wayleave() { "$BIN/python" -m app.cli.main "$@"; }

hosts=${DEMO_HOSTS:-2000}
email=demo@wayleave.example
drafts=analyst@wayleave.example
approves=approver@wayleave.example
login=$WAYLEAVE_DATA_DIR/demo-login.txt
fleet=$WAYLEAVE_DATA_DIR/demo-fleet-made

mkdir -p "$WAYLEAVE_DATA_DIR"
wayleave db upgrade
if [ ! -e "$fleet" ]; then
  echo "== Making a fleet of $hosts workstations"
  wayleave fleet make --hosts "$hosts"
  touch "$fleet"
fi
if [ ! -s "$login" ]; then
  password=$("$BIN/python" -c 'import secrets; print(secrets.token_urlsafe(12))')
  printf '%s\n' "$password" | wayleave admin create --email "$email" --password-stdin
  echo "== Letting people work with it"
  printf '%s\n' "$password" | "$BIN/python" tools/demo_story.py "$drafts" "$approves"
  printf '%s\n%s\n' "$email" "$password" >"$login"
fi
{ read -r email && read -r password; } <"$login"
printf '\n   Sign in as  %s\n   password    %s\n   (or as %s, who drafts, or %s, who approves; this made fleet lives in %s)\n\n' "$email" "$password" "$drafts" "$approves" "$WAYLEAVE_DATA_DIR"
