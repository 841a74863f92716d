#!/usr/bin/env bash
# Redis' own tests of strings, expiry, keys, scans, the protocol, AUTH and QUIT, against a server that runs.
# Usage: suite.sh HOST PORT WORK [PORT-WITH-KEYS ID:SECRET]
# The server on PORT has no access keys, and ALL ITS KEYS ARE DELETED. With the last two arguments, the tests that need
# a password ask a second server, which has that access key. WORK keeps the suite between runs: that of Debian's redis
# 7.0, its tests unchanged. suite_known.txt says which of them are left out and which fail; any other failure is an
# error.
set -euo pipefail

(($# == 3 || $# == 5)) || { sed -n '2,3p' "$0" >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
known=$here/suite_known.txt
mkdir -p "$3"
cd "$3"

if [[ ! -d suite ]]; then
  # The sources of the packages that apt knows; its own lists stay as they are.
  mkdir -p apt/sources apt/lists/partial
  sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >apt/sources/debian.sources
  from=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$PWD/apt/sources"
    -o Dir::State::Lists="$PWD/apt/lists" -o APT::Sandbox::User=root)
  "${from[@]}" update
  "${from[@]}" source --download-only redis
  mkdir -p unpacked
  tar -xzf redis_7.0.*.orig.tar.gz -C unpacked --strip-components=1
  mv unpacked suite
fi

# What the harness does between tests, by commands that Barge has.
cat >suite/tests/support/barge.tcl <<'END'
proc ::redis::__method__flushall {id fd args} {
    set cursor 0
    while 1 {
        if {[catch {__dispatch__raw__ $id scan [list $cursor count 1000]} reply]} {
            # Behind a password nothing has been stored.
            if {[string match NOAUTH* $reply]} {return OK}
            error $reply
        }
        lassign $reply cursor keys
        if {[llength $keys]} {__dispatch__raw__ $id del $keys}
        if {$cursor == 0} {return OK}
    }
}
interp alias {} ::redis::__method__flushdb {} ::redis::__method__flushall
# There are none to flush.
proc ::redis::__method__function {id fd args} {return OK}
# An access key takes the place of the password in the tests.
proc ::redis::__method__auth {id fd args} {
    if {$args eq {foobar}} {set args [list $::env(BARGE_SUITE_KEY)]}
    __dispatch__raw__ $id AUTH $args
}
# A block that is not for such a server runs all the same, so that its tests are named; its tags leave them out.
proc start_server {options code} {
    set before [list $::tags $::port]
    set tags {}
    if {[dict exists $options tags]} {set tags [string map {\" {}} [dict get $options tags]]}
    set ::tags [concat $::tags $tags]
    set locked [dict exists $options overrides requirepass]
    if {[string match *auth* $tags] && (!$locked || $::env(BARGE_SUITE_PORT) ne {})} {
        set ::tags [lsearch -all -inline -not -exact $::tags external:skip]
        if {$locked} {set ::port $::env(BARGE_SUITE_PORT)}
    }
    run_external_server_test $code {}
    lassign $before ::tags ::port
}
END
helper=suite/tests/test_helper.tcl
grep -q support/barge.tcl "$helper" ||
  sed -i '/^source tests\/support\/util.tcl/a source tests/support/barge.tcl' "$helper"

sed -n 's/ # left out: .*//p' "$known" >left_out
units=()
for unit in type/string expire keyspace scan protocol auth quit; do units+=(--single "unit/$unit"); done
export BARGE_SUITE_PORT=${4:-} BARGE_SUITE_KEY=${5:-}
(cd suite && tclsh tests/test_helper.tcl "${units[@]}" --host "$1" --port "$2" --singledb --ignore-encoding \
  --ignore-digest --durable --timeout 300 --skipfile ../left_out --tags '-needs:debug -needs:repl') >log 2>&1 || true
grep -q 'The End' log || { tail -n 30 log >&2 && exit 1; }

# A failure is followed by its reason, cut at its beginning unless a check of the test gave it; then
# the whole follows on one more line.
sed 's/\x1b\[[0-9;]*m//g' log | awk '
  FILENAME != "-" { at = index($0, " # "); if (at) why[substr($0, 1, at - 1)] = substr($0, at + 3); next }
  function row(name, result) { seen[name] = 1; printf "%-16s %s → %s\n", unit, name, result }
  /The End/ { exit }
  /^Testing unit\// { unit = substr($2, 6) }
  failing != "" && reason == "" { reason = $0; next }
  failing != "" {
    if (substr($0, 11) == reason) reason = $0
    sub(/ \(context: .*/, "", reason)
    row(failing, "failed (" reason ")" (failing in why ? ", known: " why[failing] : ""))
    failed++; if (!(failing in why)) bad = 1; failing = reason = ""
  }
  /^\[ok\]: / {
    name = substr($0, 7); sub(/ \([0-9]+ ms\)$/, "", name); passed++
    row(name, "passed" (name in why ? ", but is listed" : ""))
  }
  /^\[err\]: / { failing = substr($0, 8); sub(/ in tests\/unit\/[a-z\/]+\.tcl$/, "", failing) }
  /^\[skip\]: / { name = substr($0, 9); left++; row(name, why[name]) }
  /^\[ignore\]: / {
    name = substr($0, 11); at = match(name, /: (Tag: .* denied|Not supported .*)$/); left++
    row(substr(name, 1, at - 1), "left out: " substr(name, at + 2))
  }
  END {
    for (name in why) if (!(name in seen)) { print "not in the suite: " name; bad = 1 }
    printf "passed %d, failed %d, left out %d\n", passed, failed, left
    exit bad || !passed
  }' "$known" -
