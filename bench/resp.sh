#!/usr/bin/env bash
# Compares the Redis protocol of Barge with Redis itself, in one run, in turns, by redis-benchmark: SET and GET of values
# of three sizes, 1 and 8 clients; and a GET by HTTP that follows the redirect to a volume. Redis appends to its file and
# syncs before it answers, as Barge does. Prints a table: MB/s, CPU seconds of the servers per GB, peak resident memory.
#
#   bench/resp.sh                    about ten minutes, up to 8 GB under target/bench-data
#   ROUNDS=3 SIZES="1048576 16777216 268435456" CONCURRENCY="1 8" bench/resp.sh
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${ROUNDS:-3}
read -r -a sizes <<<"${SIZES:-1048576 16777216 268435456}"
read -r -a clients <<<"${CONCURRENCY:-1 8}"
data=${DATA:-$PWD/target/bench-data}/resp
readonly REDIS=6391 BARGE=6392 API=6394

command -v redis-server >/dev/null || { echo "resp.sh: redis-server is needed: apt-get install redis-server redis-tools" >&2; exit 1; }
cargo build --quiet --release --package cli
rm -rf "$data"
mkdir -p "$data/redis"
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$data"' EXIT

redis-server --port "$REDIS" --dir "$data/redis" --appendonly yes --appendfsync always --save '' \
  --auto-aof-rewrite-percentage 0 --daemonize no >"$data/redis.log" &
redis=$!
target/release/barge server --listen "127.0.0.1:$API" --resp-listen "127.0.0.1:$BARGE" --volumes 1 --replicas 1 \
  --data "$data/barge" --secret-file "$data/secret" >"$data/barge.log" 2>&1 &
barge=$!
for port in "$REDIS" "$BARGE"; do
  until [[ $(redis-cli -p "$port" PING 2>/dev/null) == PONG ]]; do :; done
done

# cpu PID: seconds of its processor time. memory PID: peak resident memory since the last `forget PID`, in MiB.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) / hz}' "/proc/$1/stat"; }
memory() { awk '/^VmHWM/ {print int($2 / 1024)}' "/proc/$1/status"; }
forget() { echo 5 >"/proc/$1/clear_refs"; }
# rate WHAT PORT: requests a second.
rate() {
  if [[ $1 == http ]]; then
    local begun=${EPOCHREALTIME/./}
    curl --silent --location --parallel --parallel-max "$count" --output /dev/null \
      "http://127.0.0.1:$API/key:__rand_int__?n=[1-$requests]"
    awk -v n="$requests" -v t=$((${EPOCHREALTIME/./} - begun)) 'BEGIN {print n * 1e6 / t}'
  else
    redis-benchmark -p "$2" -t "$1" -d "$size" -n "$requests" -c "$count" --csv 2>/dev/null | awk -F '","' 'NR == 2 {print $2}'
  fi
}

printf '%-6s %-4s %10s %8s %9s %11s %9s\n' server what bytes clients MB/s 'CPU s/GB' 'MiB peak'
for ((round = 1; round <= rounds; round++)); do
  for size in "${sizes[@]}"; do
    for count in "${clients[@]}"; do
      requests=$((1073741824 / size))
      ((requests >= 2 * count)) || requests=$((2 * count))
      ((requests <= 400)) || requests=400
      for what in set get http; do
        for name in redis barge; do
          port=$REDIS pid=$redis
          [[ $name == redis ]] || { port=$BARGE pid=$barge; }
          [[ $name$what != redishttp ]] || continue
          forget "$pid"
          before=$(cpu "$pid")
          rate=$(rate "$what" "$port")
          after=$(cpu "$pid")
          awk -v n="$name" -v w="$what" -v s="$size" -v c="$count" -v r="$rate" -v u="$before" -v v="$after" \
            -v q="$requests" -v m="$(memory "$pid")" \
            'BEGIN {printf "%-6s %-4s %10d %8d %9.0f %11.2f %9d\n", n, w, s, c, r * s / 1e6, (v - u) / (q * s / 1e9), m}'
        done
        # Redis keeps every version in its file.
        redis-cli -p "$REDIS" FLUSHALL >/dev/null
        [[ $what != set ]] || redis-benchmark -p "$REDIS" -t set -d "$size" -n 1 -c 1 -q >/dev/null 2>&1
      done
    done
  done
done
