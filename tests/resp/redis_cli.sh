#!/usr/bin/env bash
# redis-cli and redis-benchmark as they are: values from a pipe and into a file, scans, load, pipelines.
set -euo pipefail

cli() { redis-cli -p "$BARGE_RESP_PORT" "$@"; }

[[ $(cli PING) == PONG ]]
# An interactive session asks for COMMAND DOCS and INFO first.
[[ $(printf 'SET a/b hello\nGET a/b\n' | cli) == $'OK\nhello' ]]

head -c 150000000 /dev/urandom >value
[[ $(cli -x SET large/value <value) == OK ]]
# redis-cli ends a reply with a newline.
cli GET large/value | head -c 150000000 | cmp - value
[[ $(cli STRLEN large/value) == 150000000 ]]

for n in $(seq 30); do echo "SET s/$n value"; done | cli >/dev/null
[[ $(cli --scan --pattern 's/1*' | sort | tr '\n' ' ') == "s/1 s/10 s/11 s/12 s/13 s/14 s/15 s/16 s/17 s/18 s/19 " ]]
[[ $(cli --no-raw EXISTS s/1) == '(integer) 1' ]]
[[ $(cli -3 HELLO 3 | head -n 1) == *server* ]]
[[ $(cli DEL s/1 s/2 none) == 2 ]]

for pipeline in 1 4; do
  redis-benchmark -p "$BARGE_RESP_PORT" -t set,get -d 1048576 -n 60 -c 4 -P "$pipeline" --csv >report
  grep --quiet '^"SET"' report && grep --quiet '^"GET"' report
done
echo passed
