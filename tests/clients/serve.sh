# shellcheck shell=bash
# Servers that a client is part of. Sourced after place.sh, never run.
: "${work:?place.sh comes first}"

# What they are run by: nothing, or a command that gives up being root.
as=()
servers=()

# What is still running ends before its files go.
finish() {
  if ((${#servers[@]} > 0)); then
    kill "${servers[@]}" 2>/dev/null || true
    wait
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# serve PATTERN PROGRAM ARGUMENT...: starts a server that does not outlive us, and waits until it says what matches the
# pattern, which is in BASH_REMATCH then. All that it says is in PROGRAM.log.
serve() {
  local pattern=$1 name pipe said line=
  shift
  name=$(basename "$1")
  pipe=$(mktemp --dry-run "$work/said.XXXXXXXX")
  mkfifo "$pipe"
  "${as[@]}" setpriv --pdeathsig TERM "$@" >"$pipe" 2>&1 &
  servers+=($!)
  exec {said}<"$pipe"
  while read -r line <&"$said"; do
    printf '%s\n' "$line" >>"$work/$name.log"
    [[ ! $line =~ $pattern ]] || break
  done
  [[ $line =~ $pattern ]] || fail "$name does not run: $(<"$work/$name.log")"
  # It would stop when nobody reads what it says.
  cat <&"$said" >>"$work/$name.log" &
  exec {said}<&-
}

# stop: ends the server that was started last.
stop() {
  kill "${servers[-1]}"
  wait "${servers[-1]}" || true
  unset 'servers[-1]'
}
