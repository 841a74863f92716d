# shellcheck shell=bash
# Servers that a client needs. Sourced after place.sh, never run.
: "${work:?place.sh comes first}"

# The command that runs them: empty, or one that drops root.
as=()
servers=()

# Running servers are stopped before their files are removed.
finish() {
  if ((${#servers[@]} > 0)); then
    kill "${servers[@]}" 2>/dev/null || true
    wait
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# serve PATTERN PROGRAM ARGUMENT...: starts a server that does not outlive the script, and waits until its output
# matches the pattern; the match is in BASH_REMATCH then. The output is in PROGRAM.log.
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
  [[ $line =~ $pattern ]] || fail "$name is not running: $(<"$work/$name.log")"
  # It would block if its output were not read.
  cat <&"$said" >>"$work/$name.log" &
  exec {said}<&-
}

# stop: stops the server that was started last.
stop() {
  kill "${servers[-1]}"
  wait "${servers[-1]}" || true
  unset 'servers[-1]'
}
