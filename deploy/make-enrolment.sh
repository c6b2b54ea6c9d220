#!/bin/sh
# Makes one enrolment secret for the demo agent, as soon as the database is migrated.
set -eu
umask 077
[ -s /enrolment/secret ] && exit 0
attempt=0
until wayleave enrol-secret create --uses 1 >/tmp/secret; do
  attempt=$((attempt + 1))
  [ "$attempt" -lt 60 ] || exit 1
  sleep 2
done
cp /tmp/secret /enrolment/secret.new
mv /enrolment/secret.new /enrolment/secret
