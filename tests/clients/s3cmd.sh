#!/usr/bin/env bash
# s3cmd: put, get, sync, multipart, ls, info, cp, mv, del.
# Every download is compared by digest.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

host=${BARGE_S3_ENDPOINT#*://}
cat >"$HOME/.s3cfg" <<END
[default]
access_key = $BARGE_S3_KEY
secret_key = $BARGE_S3_SECRET
host_base = $host
host_bucket = $host
bucket_location = $REGION
use_https = $([[ $BARGE_S3_ENDPOINT == https:* ]] && echo True || echo False)
END
s3() { s3cmd --no-progress "$@"; }
s3cmd --version

step "a bucket"
s3 mb "s3://$bucket"
s3 ls | found -F "$bucket" || fail "the bucket is not listed"

step "put and get"
file small 1000
s3 put small "s3://$bucket/dir/small" --mime-type=text/x-small --add-header=x-amz-meta-owner:me
s3 get "s3://$bucket/dir/small" back
same small back
s3 info "s3://$bucket/dir/small" | found -E 'MIME type: +text/x-small' || fail "wrong content type"
s3 info "s3://$bucket/dir/small" | found -E 'x-amz-meta-owner: me' || fail "wrong metadata"

step "a multipart upload"
file large $((40 << 20))
s3 put --multipart-chunk-size-mb=8 large "s3://$bucket/large" >/dev/null
s3 get --force "s3://$bucket/large" back
same large back

step "cp and mv within the store"
s3 cp "s3://$bucket/large" "s3://$bucket/copy"
s3 mv "s3://$bucket/copy" "s3://$bucket/moved"
s3 get --force "s3://$bucket/moved" back
same large back
refuses s3 get --force "s3://$bucket/copy" nothing

step "sync, both ways"
tree from
s3 sync from/ "s3://$bucket/tree/" >/dev/null
mkdir to
s3 sync "s3://$bucket/tree/" to/ >/dev/null
same from to
rm from/one
file from/many/3 4000
s3 sync --delete-removed from/ "s3://$bucket/tree/" >/dev/null
s3 sync --delete-removed "s3://$bucket/tree/" to/ >/dev/null
same from to

step "ls and du"
s3 ls "s3://$bucket/tree/" | found -E 'DIR +s3://.*/a b/$' || fail "the folder is not listed"
[[ $(s3 ls --recursive "s3://$bucket/tree/" | wc -l) == "$(find from -type f | wc -l)" ]] || fail "the listing is incomplete"

step "del"
s3 del "s3://$bucket/dir/small"
refuses s3 get --force "s3://$bucket/dir/small" nothing
s3 del --recursive --force "s3://$bucket/" >/dev/null
[[ -z $(s3 ls --recursive "s3://$bucket/") ]] || fail "objects are left"
[[ -z $(s3 multipart "s3://$bucket" | tail -n +3) ]] || fail "a multipart upload is left"
s3 rb "s3://$bucket"
refuses s3 ls "s3://$bucket"
step "done"
