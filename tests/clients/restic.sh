#!/usr/bin/env bash
# restic: init, backup, a second one, check of all data, restore, forget and prune.
# The restored files are compared by digest.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

export AWS_ACCESS_KEY_ID=$BARGE_S3_KEY AWS_SECRET_ACCESS_KEY=$BARGE_S3_SECRET AWS_DEFAULT_REGION=$REGION
export RESTIC_REPOSITORY=s3:$BARGE_S3_ENDPOINT/$bucket/backups RESTIC_PASSWORD=of-this-test
export RESTIC_CACHE_DIR=$work/cache RESTIC_PROGRESS_FPS=0.1
restic version

step "init"
restic init
refuses restic init

step "backup"
tree from
restic backup from
file from/large.bin $((25 << 20))
rm from/one
cp -r from kept
restic backup from
[[ $(restic snapshots --json | grep -o '"short_id"' | wc -l) == 2 ]] || fail "expected two snapshots"

step "check of all data"
restic check --read-data

step "restore"
restic restore latest --target to
same kept to/from
restic dump latest /from/large.bin >back 2>/dev/null || restic dump latest "$work/from/large.bin" >back
same kept/large.bin back

step "forget and prune"
restic forget --keep-last 1 --prune
[[ $(restic snapshots --json | grep -o '"short_id"' | wc -l) == 1 ]] || fail "expected one snapshot"
restic check --read-data
rm -rf to
restic restore latest --target to
same kept to/from
refuses env RESTIC_PASSWORD=wrong restic snapshots

step "remove"
remove_bucket
step "done"
