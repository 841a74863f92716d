#!/usr/bin/env bash
# pgBackRest keeps the backups and the write-ahead log of a PostgreSQL in the store: stanza-create, a full backup, an
# incremental one, a change that is in the log only, restore into another directory, verify, expire.
# The restored database is compared by a dump. pgBackRest supports S3 over TLS only, so the store must use it.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"
# shellcheck source=tests/clients/serve.sh disable=SC1091
source "$here/serve.sh"

# It accepts names in certificates, but no addresses.
[[ $BARGE_S3_ENDPOINT == https://localhost:* ]] || fail "the store must speak TLS, as localhost"
: "${AWS_CA_BUNDLE:?the authority that signed the certificate of the store}"
address=${BARGE_S3_ENDPOINT#https://}
# Debian keeps the programs of each version in a separate directory.
programs=$(find /usr/lib/postgresql -name initdb -printf '%h\n' | LC_ALL=C sort --version-sort | tail -n 1)
export PATH=$PATH:$programs
pgbackrest version
postgres --version

# PostgreSQL does not run as root, its package's user cannot read root's directories, and the name of a
# socket must be short.
if ((EUID == 0)); then as=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
home=$(mktemp --directory /tmp/barge-postgres.XXXXXXXX)
trap 'finish; rm -rf "$home"' EXIT
mkdir -p "$home"/{lock,spool,log,data,restored}
cp "$AWS_CA_BUNDLE" "$home/ca.pem"
cat >"$home/pgbackrest.conf" <<END
[global]
repo1-type=s3
repo1-path=/backups
repo1-s3-bucket=$bucket
repo1-s3-endpoint=${address%:*}
repo1-s3-uri-style=path
repo1-s3-region=$REGION
repo1-s3-key=$BARGE_S3_KEY
repo1-s3-key-secret=$BARGE_S3_SECRET
repo1-storage-port=${address##*:}
repo1-storage-ca-file=$home/ca.pem
repo1-retention-full=1
repo1-bundle=y
compress-level=1
process-max=2
start-fast=y
lock-path=$home/lock
spool-path=$home/spool
log-path=$home/log
log-level-console=warn
[main]
pg1-path=$home/data
pg1-socket-path=$home
END
if ((EUID == 0)); then chown -R postgres: "$home"; fi
chmod 700 "$home"/{data,restored}
export PGBACKREST_CONFIG=$home/pgbackrest.conf PGBACKREST_STANZA=main PGHOST=$home PGDATABASE=postgres
cd "$home"
by() { "${as[@]}" "$@"; }
sql() { by psql --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"; }
# A dump without the random token that guards it.
dump() { by pg_dump | sed '/^\\\(un\)\?restrict /d'; }
# Prints the number of objects in the bucket below a prefix.
objects() {
  PYTHONPATH=$here python3 - "$bucket" "$1" <<'END'
import sys
import store
pages = store.connect().get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1], Prefix=sys.argv[2])
print(sum(page["KeyCount"] for page in pages))
END
}

step "a database"
make_bucket
by initdb --pgdata=data --auth=trust --username=postgres --no-sync --no-locale --encoding=UTF8 >/dev/null
cat >>data/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$home'
fsync = off
wal_level = replica
archive_mode = on
archive_command = 'pgbackrest archive-push %p'
END
export PGUSER=postgres
ready='database system is ready to accept connections'
serve "$ready" postgres -D data
sql --command="CREATE TABLE numbers AS SELECT n, md5(n::text) AS text FROM generate_series(1, 100000) AS n"

step "stanza-create and check"
by pgbackrest stanza-create
by pgbackrest check
(($(objects backups/archive/main/) > 2)) || fail "no log was archived"

step "a full backup, a change, an incremental backup"
by pgbackrest backup --type=full
sql --command="INSERT INTO numbers SELECT n, md5(n::text) FROM generate_series(100001, 150000) AS n"
# Each file is a separate object, as by default.
by pgbackrest backup --type=incr --no-repo1-bundle
by pgbackrest info >backups
found -F 'full backup:' backups || fail "no full backup: $(<backups)"
found -F 'incr backup:' backups || fail "no incremental backup: $(<backups)"

step "a change that is in the log only"
sql --command="DELETE FROM numbers WHERE n % 3 = 0" --command="CHECKPOINT"
dump >expected
by pgbackrest check
stop

step "restore into another directory"
by pgbackrest restore --pg1-path="$home/restored"
serve "$ready" postgres -D restored -c archive_mode=off
dump >found
same expected found
[[ $(sql --command="SELECT count(*) FROM numbers") == 100000 ]] || fail "other rows"
stop

step "verify, and a second full backup in place of the first"
by pgbackrest verify >verify.log 2>&1 || fail "$(<verify.log)"
serve "$ready" postgres -D data
before=$(objects backups/backup/main/)
by pgbackrest backup --type=full
after=$(objects backups/backup/main/)
((after < before)) || fail "nothing has expired: $before objects, then $after"
[[ $(by pgbackrest info | grep -c 'backup: ') == 1 ]] || fail "expected one backup: $(by pgbackrest info)"
# Corrupted bytes in a restored directory are restored.
by pgbackrest restore --pg1-path="$home/restored" --delta
serve "$ready" postgres -D restored -c archive_mode=off -c port=5433
sql --command="SELECT sum(n) FROM numbers" >one
sql --command="SELECT sum(n) FROM numbers" --port=5433 >two
same one two
stop
stop

step "remove"
by pgbackrest stop
by pgbackrest stanza-delete --force
[[ $(objects backups/) == 0 ]] || fail "objects are left"
remove_bucket
step "done"
