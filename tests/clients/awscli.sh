#!/usr/bin/env bash
# The AWS command line with its defaults: cp, mv, rm, sync, ls, a multipart upload, presign, conditional writes.
# Every download is compared by digest.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

export AWS_ACCESS_KEY_ID=$BARGE_S3_KEY AWS_SECRET_ACCESS_KEY=$BARGE_S3_SECRET AWS_DEFAULT_REGION=$REGION
export AWS_ENDPOINT_URL=$BARGE_S3_ENDPOINT AWS_MAX_ATTEMPTS=1 AWS_PAGER=
aws --version
aws configure set default.s3.addressing_style path
# By default this version presigns with signature version 2, which is not accepted.
aws configure set default.s3.signature_version s3v4

step "a bucket"
aws s3 mb "s3://$bucket"
aws s3 ls | found -F "$bucket" || fail "the bucket is not listed"

step "cp, both ways"
file small 1000
aws s3 cp small "s3://$bucket/dir/small" --content-type text/x-small --metadata owner=me
aws s3 cp "s3://$bucket/dir/small" back
same small back
aws s3api head-object --bucket "$bucket" --key dir/small --query '[ContentType,Metadata.owner]' --output text |
  found -xF $'text/x-small\tme' || fail "wrong metadata"
aws s3 cp small - >/dev/null 2>&1 && fail "cp accepted two local names"
aws s3 cp - "s3://$bucket/piped" <small
aws s3 cp "s3://$bucket/piped" - >back
same small back

step "a multipart upload"
file large $((70 << 20))
aws s3 cp large "s3://$bucket/large" --only-show-errors
aws s3api head-object --bucket "$bucket" --key large --query ETag --output text | found -E -- '-9"$' ||
  fail "it was not uploaded in nine parts"
aws s3 cp "s3://$bucket/large" back --only-show-errors
same large back
aws s3api get-object --bucket "$bucket" --key large --range bytes=8388600-8388700 part >/dev/null
same <(tail -c +8388601 large | head -c 101) part

step "cp and mv within the store"
aws s3 cp "s3://$bucket/large" "s3://$bucket/copy" --only-show-errors
aws s3 mv "s3://$bucket/copy" "s3://$bucket/moved" --only-show-errors
aws s3 cp "s3://$bucket/moved" back --only-show-errors
same large back
aws s3 ls "s3://$bucket/copy" && fail "the moved object is still there"

step "sync, both ways"
tree from
# S3 times are in seconds: a file of the current second looks newer than its object.
find from -exec touch -d '10 seconds ago' {} +
aws s3 sync from "s3://$bucket/tree" --only-show-errors
aws s3 sync "s3://$bucket/tree" to --only-show-errors
same from to
[[ -z $(aws s3 sync from "s3://$bucket/tree") ]] || fail "a second sync sends something"
rm from/one
file from/new 100
file from/many/3 4000
aws s3 sync from "s3://$bucket/tree" --delete --only-show-errors
aws s3 sync "s3://$bucket/tree" to --delete --only-show-errors
same from to

step "ls"
aws s3 ls "s3://$bucket/tree/" | found -E ' PRE a b/$' || fail "the folder is not listed"
aws s3 ls "s3://$bucket/tree/large.bin" | found -F 20971520 || fail "wrong size"
[[ $(aws s3 ls --recursive "s3://$bucket/tree/" | wc -l) == "$(find from -type f | wc -l)" ]] || fail "the listing is incomplete"
aws s3 ls "s3://$bucket" --recursive --summarize --page-size 5 | found -F "Total Objects: $(($(find from -type f | wc -l) + 4))" || fail "objects are missing between pages"

step "presign"
curl -qfsS "$(aws s3 presign "s3://$bucket/dir/small" --expires-in 60)" -o back
same small back

step "conditional writes"
put=(aws s3api put-object --bucket "$bucket" --key once --body small)
"${put[@]}" --if-none-match '*' >/dev/null
refuses "${put[@]}" --if-none-match '*'
grep -qF PreconditionFailed refused.log || fail "refused for another reason: $(<refused.log)"
tag=$(aws s3api head-object --bucket "$bucket" --key once --query ETag --output text)
"${put[@]}" --if-match "$tag" >/dev/null

step "rm"
aws s3 rm "s3://$bucket/dir/small"
refuses aws s3 cp "s3://$bucket/dir/small" back
aws s3 rm "s3://$bucket/tree" --recursive --only-show-errors
[[ -z $(aws s3 ls "s3://$bucket/tree/") ]] || fail "objects are left"
aws s3 rb "s3://$bucket" --force >/dev/null
refuses aws s3 ls "s3://$bucket"
step "done"
