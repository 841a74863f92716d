#!/usr/bin/env bash
# Memory of a master that answers many Redis clients at once: it runs in a cgroup of 128 MiB, its volume outside. Prints
# the peak of its anonymous memory after each step; a master that the kernel ends, or a value that differs, is a failure.
#
#   sudo bench/resp_memory.sh        about five minutes; 1 GiB for each SET at once, as far as the disk has room
#   CLIENTS=64 IDLE=5000 bench/resp_memory.sh
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
clients=${CLIENTS:-64}
idle=${IDLE:-5000}
data=${DATA:-$PWD/target/bench-data}/resp-memory
readonly LIMIT=$((128 << 20)) GIB=$((1 << 30)) PORT=6393 API=3093 VOLUME=3094

cargo build --quiet --release --package cli
mkdir -p "$data"
if [[ -e /sys/fs/cgroup/memory ]]; then group=/sys/fs/cgroup/memory/barge-resp limit=memory.limit_in_bytes
else group=/sys/fs/cgroup/barge-resp limit=memory.max; fi
mkdir -p "$group"
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$data"; rmdir "$group" 2>/dev/null' EXIT
echo "$LIMIT" >"$group/$limit"

ulimit -n 20000
head -c 32 /dev/urandom | base64 >"$data/secret"
chmod 600 "$data/secret"
(echo "$BASHPID" >"$group/cgroup.procs" && exec -a master target/release/barge --listen "127.0.0.1:$API" \
  --resp-listen "127.0.0.1:$PORT" --replicas 1 --secret-file "$data/secret" "$data/master") >"$data/master.log" 2>&1 &
master=$!
(exec -a volume target/release/barge --listen "127.0.0.1:$VOLUME" --master "http://127.0.0.1:$API" \
  --secret-file "$data/secret" "$data/volume") >"$data/volume.log" 2>&1 &
for ((n = 0; n < 100; n++)); do
  [[ $(curl -sf "127.0.0.1:$API/_/metrics" | awk '/^barge_volumes_writable / {print $2}') != 1 ]] || break
  sleep 0.1
done

# redis-cli holds a value in memory, so these speak by themselves. set_value KEY BYTES: from the standard input.
set_value() {
  local reply
  exec 3<>"/dev/tcp/127.0.0.1/$PORT"
  # shellcheck disable=SC2016 # the dollar signs are of the protocol
  { printf '*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n' "${#1}" "$1" "$2" && cat && printf '\r\n'; } >&3
  read -r reply <&3
  [[ $reply == +OK* ]] || { echo "SET $1: $reply" >&2; return 1; }
}
# get_value KEY BYTES
get_value() {
  local announced
  exec 3<>"/dev/tcp/127.0.0.1/$PORT"
  printf 'GET %s\r\n' "$1" >&3
  read -r announced <&3
  [[ ${announced%$'\r'} == "\$$2" ]] || { echo "GET $1: $announced" >&2; return 1; }
  head -c "$2" <&3
}
# told STEP: what the master holds, and held at most.
told() {
  kill -0 "$master" 2>/dev/null || { echo "the master has ended during: $1" >&2; tail -n 5 "$data/master.log" >&2; exit 1; }
  awk -v step="$1" '/^RssAnon/ {now = $2} /^VmHWM/ {peak = $2}
    END {printf "%-58s %4d MiB now, %4d MiB resident at most\n", step, now / 1024, peak / 1024}' "/proc/$master/status"
}
# value BYTES: the same each time.
value() { head -c "$1" /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00 -iv 00 2>/dev/null; }

told "started"
size=$GIB
room=$(($(df --output=avail -B1 "$data" | tail -n 1) * 8 / 10 / clients))
((size <= room)) || size=$((room >> 20 << 20))
jobs=()
for ((n = 0; n < clients; n++)); do
  (value "$size" | set_value "set/$n" "$size") & jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
told "$clients SETs of $((size >> 20)) MiB at once"
for ((n = 0; n < clients; n++)); do curl -sf -X DELETE "127.0.0.1:$API/set/$n" >/dev/null; done

value "$GIB" >"$data/large"
(set_value large "$GIB" <"$data/large")
jobs=()
for ((n = 0; n < clients; n++)); do
  (get_value large "$GIB" | cmp --quiet - "$data/large") & jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job" || { echo "a GET differs" >&2; exit 1; }; done
told "$clients GETs of 1024 MiB at once, compared"

python3 - "$PORT" "$idle" "$master" <<'END'
import socket, sys
port, idle = int(sys.argv[1]), int(sys.argv[2])
def anonymous():
    return next(int(line.split()[1]) for line in open(f"/proc/{sys.argv[3]}/status") if line.startswith("RssAnon"))
def connect():
    return socket.create_connection(("127.0.0.1", port))
def ping(one):
    one.sendall(b"PING\r\n")
    assert one.recv(100) == b"+PONG\r\n"
before = anonymous()
held = []
for n in range(64):
    one = connect()
    one.sendall(b"*3\r\n$3\r\nSET\r\n$6\r\nun/%03d\r\n$3000000000\r\n" % n)
    held.append(one)
ping(connect())
print(f"64 clients announce 3 GB each and send nothing: {(anonymous() - before) / 1024:.0f} MiB more")
held.clear()
before = anonymous()
for n in range(idle):
    one = connect()
    ping(one)
    held.append(one)
print(f"{idle} idle connections: {(anonymous() - before) / 1024:.0f} MiB more")
END
told "$idle idle connections"
