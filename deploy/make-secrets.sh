#!/bin/sh
# Writes the database's password once: for PostgreSQL's first start, and as a password file for the server.
set -eu
umask 077
cd /secrets
[ -s pgpass ] && exit 0
password=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
printf '%s\n' "$password" >database-password.new
chmod 0644 database-password.new # another container's user reads it; the volume is in these containers alone
mv database-password.new database-password
printf 'database:5432:*:wayleave:%s\n' "$password" >pgpass.new
mv pgpass.new pgpass
