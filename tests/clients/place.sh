# shellcheck shell=bash
# The environment of a client script: required variables, a private directory, a bucket name, files with
# known digests. Sourced, never run; it sends nothing. Each script removes what it created, with its own client.
set -euo pipefail

: "${BARGE_S3_ENDPOINT:?the address of the store, http://HOST:PORT}"
: "${BARGE_S3_KEY:?the id of a key with all permissions}"
: "${BARGE_S3_SECRET:?the secret of that key}"
# shellcheck disable=SC2034
readonly REGION=${BARGE_S3_REGION:-us-east-1}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp --directory "${TMPDIR:-/tmp}/barge-client.XXXXXXXX")
trap 'rm -rf "$work"' EXIT
# Nothing from the user's environment.
export HOME=$work/home
mkdir "$HOME"
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
# Some clients require this file even without TLS.
[[ $BARGE_S3_ENDPOINT == https:* ]] || unset AWS_CA_BUNDLE
cd "$work"

# shellcheck disable=SC2034
bucket=c-$(basename "$0" .sh)-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')

# step WHAT: prints the current step; the last one is the one that failed.
step() { printf -- '---- %s\n' "$*"; }

# fail WHY
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# file NAME BYTES: a file of that many random bytes.
file() {
  mkdir -p "$(dirname "$1")"
  head -c "$2" /dev/urandom >"$1"
}

# tree DIRECTORY: files of many sizes and names.
tree() {
  file "$1/empty" 0
  file "$1/one" 1
  file "$1/a b/with space.bin" 70000
  file "$1/ümläut/漢字.bin" 65536
  file "$1/plus+and&and=.bin" 1000
  file "$1/deep/er/and/deeper/file" 12345
  file "$1/large.bin" $((20 << 20))
  local n
  for n in $(seq 20); do file "$1/many/$n" $((n * 137)); done
}

# found PATTERN...: as grep, but reads to the end, so that the writer's pipe does not break.
found() { grep "$@" >/dev/null; }

# same A B: expects two files or directories with the same names and bytes.
same() { [[ $(digests "$1") == "$(digests "$2")" ]] || fail "$1 and $2 differ"; }

# digests PATH: digests of the contents, by name.
digests() {
  if [[ -d $1 ]]; then
    (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
  else
    sha256sum <"$1"
  fi
}

# make_bucket, remove_bucket: for clients that cannot do it.
make_bucket() { PYTHONPATH=$here python3 -c 'import store, sys; store.connect().create_bucket(Bucket=sys.argv[1])' "$bucket"; }
remove_bucket() { python3 "$here/remove.py" "$bucket"; }

# refuses COMMAND...: expects the command to fail.
refuses() {
  if "$@" >refused.log 2>&1; then fail "this should have been refused: $*"; fi
}
