#!/usr/bin/env bash
# rclone: sync, check, odd names, copyto, moveto, cat of a range, lsf, multipart, purge.
# Every download is compared by digest, by this script and by rclone itself.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

export RCLONE_CONFIG=$HOME/rclone.conf
cat >"$RCLONE_CONFIG" <<END
[barge]
type = s3
provider = Other
endpoint = $BARGE_S3_ENDPOINT
access_key_id = $BARGE_S3_KEY
secret_access_key = $BARGE_S3_SECRET
region = $REGION
END
chmod 600 "$RCLONE_CONFIG"
rc() { rclone --retries 1 --low-level-retries 1 --s3-chunk-size 5Mi --s3-upload-cutoff 5Mi "$@"; }
rclone version

step "a bucket"
rc mkdir "barge:$bucket"
rc lsf barge: | found -xF "$bucket/" || fail "the bucket is not listed"

step "sync and check"
tree from
rc sync from "barge:$bucket/tree"
rc check from "barge:$bucket/tree"
rc check --download from "barge:$bucket/tree"
rc sync "barge:$bucket/tree" to
same from to

step "sync of a change"
rm from/one
file from/new 100
file from/many/3 4000
refuses rc check from "barge:$bucket/tree"
rc sync from "barge:$bucket/tree"
rc check --download from "barge:$bucket/tree"
rc sync "barge:$bucket/tree" to
same from to

step "modification times"
touch --date=2001-02-03T04:05:06Z from/new
rc sync from "barge:$bucket/tree"
rc lsl "barge:$bucket/tree/new" | found -F 2001-02-03 || fail "the modification time is lost"

step "odd names"
# rclone sends all of these unchanged. Folders of a Mac have an Icon with a carriage return.
names=($'Icon\r' $'new\nline' $'tab\t' $'delete\x7f' $'u\u0308mlaut' 'a&b<c>"d'\' 'per%20cent%' 'plus+' ' space '
  'back\slash' 'q?*:|' '..dots..' '~!@#$^()[]{}=;,`')
mkdir odd
for name in "${names[@]}"; do
  printf %s "$name" >"odd/$name"
done
# copied COMMAND...: prints what a sync sent or fetched.
copied() {
  "$@" -v >sync.log 2>&1 || fail "$(<sync.log)"
  grep -c ': Copied' sync.log || true
}
# With names escaped in lists, as rclone requests from this kind of store, and without.
for escaped in true false; do
  odd=(--s3-list-url-encode="$escaped")
  there="barge:$bucket/odd names/$escaped"
  [[ $(copied rc sync odd "$there" "${odd[@]}") == "${#names[@]}" ]] || fail "some files were not sent: $(<sync.log)"
  [[ $(copied rc sync odd "$there" "${odd[@]}") == 0 ]] || fail "a second sync sends something: $(<sync.log)"
  rc check --download odd "$there" "${odd[@]}"
  rm -rf to
  rc sync "$there" to "${odd[@]}"
  same odd to
  [[ $(copied rc sync "$there" to "${odd[@]}") == 0 ]] || fail "a second sync fetches something: $(<sync.log)"
  mkdir some
  cp odd/..dots.. some/
  rc sync some "$there" "${odd[@]}"
  [[ $(rc lsf "$there" "${odd[@]}") == ..dots.. ]] || fail "the sync did not delete: $(rc lsf "$there" "${odd[@]}")"
  rm -r some
done
rm -rf to

step "copyto, moveto, cat"
file large $((30 << 20))
rc copyto large "barge:$bucket/large"
rc copyto "barge:$bucket/large" "barge:$bucket/copy"
rc moveto "barge:$bucket/copy" "barge:$bucket/moved"
rc copyto "barge:$bucket/moved" back
same large back
rc cat --offset 5242870 --count 100 "barge:$bucket/large" >part
same <(tail -c +5242871 large | head -c 100) part
[[ -z $(rc lsf "barge:$bucket/copy") ]] || fail "the moved object is still there"
rc rcat "barge:$bucket/piped" <large
rc cat "barge:$bucket/piped" >back
same large back

step "lists"
[[ $(rc lsf --recursive --files-only "barge:$bucket/tree" | wc -l) == "$(find from -type f | wc -l)" ]] ||
  fail "the listing is incomplete"
rc size "barge:$bucket/large" | found -F '(31457280 Byte)' || fail "wrong size"

step "delete and purge"
rc deletefile "barge:$bucket/large"
[[ -z $(rc lsf "barge:$bucket/large") ]] || fail "the deleted object is still there"
rc purge "barge:$bucket"
rc lsf barge: | found -xF "$bucket/" && fail "the bucket is still there"
step "done"
