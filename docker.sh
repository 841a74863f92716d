#!/usr/bin/env bash
# A Barge cluster on this machine: one master or three, and N volumes, each in a container of its own, on
# a network of their own. Reached from this machine only: http://localhost:3000, and http://localhost:9000 for S3.
#
# The containers share one image that holds one static binary by its three names, built here from these sources.
# Values and metadata are kept in named docker volumes; `down` removes them.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

readonly IMAGE=barge:local
readonly NETWORK=barge
readonly LABEL=barge.cluster=local
readonly MASTER=barge-master
readonly MASTER_PORT=3000
readonly MORE_MASTERS_PORT=3100
readonly S3_PORT=${S3_PORT:-9000}
readonly MORE_S3_PORT=9100
readonly MASTERS_MAX=7
readonly STATE=.docker
readonly PROFILE=${BARGE_PROFILE:-release}
# Features to add to dependencies, to share builds with the tests.
readonly FEATURES=${BARGE_FEATURES:-}
# What goes into the image: one place for each way to build it.
readonly BINS=target/barge-bins/$PROFILE${FEATURES:+-tests}
readonly VOLUMES_MAX=64
readonly DOCKERD_DEADLINE_SECONDS=60
readonly HEALTH_DEADLINE_SECONDS=60

# What a client should do with a cluster of which a volume has just died: ask the master again. It
# notices within 3 seconds.
readonly -a CURL=(curl --silent --show-error --location --retry 8 --retry-delay 1 --retry-connrefused
  --retry-all-errors --connect-timeout 5 --max-time 120)

usage() {
  cat <<TEXT
usage: [S3_PORT=9000] [BARGE_PROFILE=release] ./docker.sh VERB

  up [--masters M] [--volumes N]
                     build, start M masters (1) and N volumes (3), wait until they take values
  status             the containers, and what the master thinks of its volumes
  demo               put, get, list and delete a value of 64 MiB with curl, get it by S3 too, and check every answer
  kill V             kill a container at once, as a power cut would: kill volume2
  start V            start it again
  logs [V]           what they have to say: all of them, or one (master, master2, volume1, ...)
  build              only build the image and the cluster's secret (for compose.yaml)
  daemon             only see to it that the docker daemon runs
  down               stop all of it and REMOVE ITS DATA
TEXT
}

die() {
  printf 'docker.sh: %s\n' "$*" >&2
  exit 1
}

# ---------------------------------------------------------------- docker itself

need_docker() {
  if ! command -v docker >/dev/null || { ! docker info >/dev/null 2>&1 && ! command -v dockerd >/dev/null; }; then
    install_docker
  fi
  docker info >/dev/null 2>&1 || start_dockerd
}

install_docker() {
  ((EUID == 0)) || die "docker is not installed, and only root can install it: apt-get install docker.io"
  command -v apt-get >/dev/null || die "docker is not installed, and there is no apt-get here: install it first"
  echo "installing docker.io"
  mkdir -p "$STATE"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q docker.io; } \
    >"$STATE/apt.log" 2>&1 </dev/null || die "docker.io could not be installed; see $STATE/apt.log"
}

start_dockerd() {
  ((EUID == 0)) || die "the docker daemon cannot be reached ($(docker info 2>&1 >/dev/null | head -n 1)).
Start it, or join its group: sudo systemctl start docker; sudo usermod -aG docker $(id -un)"
  echo "starting dockerd"
  mkdir -p "$STATE"
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker >"$STATE/dockerd.log" 2>&1 || true
  else
    setsid dockerd >"$STATE/dockerd.log" 2>&1 </dev/null &
  fi
  local deadline=$((SECONDS + DOCKERD_DEADLINE_SECONDS))
  until docker info >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      tail -n 5 "$STATE/dockerd.log" >&2
      die "dockerd was not ready within $DOCKERD_DEADLINE_SECONDS s; see $STATE/dockerd.log"
    fi
    sleep 0.2
  done
}

# ---------------------------------------------------------------- image and secret

build() {
  command -v cargo >/dev/null || die "cargo is needed to build the binaries: https://rustup.rs"
  local made log=$STATE/build.log
  mkdir -p "$STATE" "$BINS"
  # Nothing in here is for git, whatever the repository's own list says.
  echo '*' >"$STATE/.gitignore"

  echo "building a static binary with the profile $PROFILE (minutes at first, seconds afterwards)"
  # Static all through: an image from scratch has no libc to load. Only the last step differs from what `cargo build`
  # does, so that everything before it is shared with that.
  made=$(cargo rustc --quiet --profile "$PROFILE" --features "$FEATURES" --package cli --bin barge \
    --message-format json-render-diagnostics -- -C target-feature=+crt-static | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
  [[ -x $made ]] || die "cargo made no program"
  # A copy that is as new as the original keeps docker's layer cache; debug lines stay at home.
  if [[ ! -e $BINS/barge || $made -nt $BINS/barge ]]; then
    strip --strip-debug -o "$STATE/barge" "$made" 2>/dev/null || cp "$made" "$STATE/barge"
    mv "$STATE/barge" "$BINS/barge"
  fi
  # It is the server by whose name it is started.
  ln -sf barge "$BINS/master"
  ln -sf barge "$BINS/volume"
  docker build --quiet --tag "$IMAGE" --file Dockerfile "$BINS" >"$log" 2>&1 ||
    { cat "$log" >&2; die "the image could not be built"; }

  if [[ ! -s $STATE/secret ]]; then
    (umask 077 && head -c 32 /dev/urandom | base64 >"$STATE/secret")
  fi
  chmod 600 "$STATE/secret"
}

# ---------------------------------------------------------------- containers

exists() { docker container inspect "$1" >/dev/null 2>&1; }

running() { [[ $(docker container inspect --format '{{.State.Running}}' "$1" 2>/dev/null) == true ]]; }

# run NAME PORTS PROGRAM ARGUMENTS...: makes it so; of several ports, in one word, the first is its own. A container
# that runs what is wanted is left alone, one of another image or with other arguments is replaced; its data stays.
run() {
  local name=$1 port=${2%% *} ports=$2 program=$3 image wanted number
  local -a published=()
  shift 3
  # Ports on 127.0.0.1 only: there are no access keys, so nobody else may reach them.
  for number in $ports; do published+=(--publish "127.0.0.1:$number:$number"); done
  image=$(docker image inspect --format '{{.Id}}' "$IMAGE")
  wanted=$(printf '%s\n' "$image" "$ports" "$program" "$@" | sha256sum | cut -c 1-16)
  if exists "$name"; then
    [[ $(docker container inspect --format '{{index .Config.Labels "barge.cluster"}}' "$name") == local ]] ||
      die "a container named $name exists and is not ours: rename or remove it"
    if [[ $(docker container inspect --format '{{index .Config.Labels "barge.wanted"}}' "$name") == "$wanted" ]]; then
      running "$name" || docker start "$name" >/dev/null
      return
    fi
    docker stop --time 30 "$name" >/dev/null
    docker rm "$name" >/dev/null
  fi
  docker run --detach --name "$name" --hostname "$name" --network "$NETWORK" \
    --label "$LABEL" --label "barge.wanted=$wanted" \
    "${published[@]}" \
    --mount "type=volume,source=barge-data-$name,target=/data,volume-label=$LABEL" \
    --mount "type=bind,source=$PWD/$STATE/secret,target=/run/barge-secret,readonly" \
    --read-only --entrypoint "/$program" "$IMAGE" \
    --secret-file /run/barge-secret --insecure-no-auth --listen "0.0.0.0:$port" \
    --public-url "http://localhost:$port" "$@" /data >/dev/null
}

containers() {
  docker ps --all --filter "label=$LABEL" --format '{{.Names}}' | sort --version-sort
}

# The container that a user means: volume2, 2, master or barge-master.
container() {
  local name=$1
  case $name in
    master | master[0-9]*) name=barge-$name ;;
    [0-9]*) name=volume$name ;;
  esac
  containers | grep --quiet --line-regexp --fixed-strings -- "$name" ||
    die "there is no $1; there are: $(containers | tr '\n' ' ')"
  echo "$name"
}

# ---------------------------------------------------------------- masters

# The name and the port of the n-th master.
master_name() { if (($1 == 1)); then echo "$MASTER"; else echo "$MASTER$1"; fi; }

master_port() { if (($1 == 1)); then echo "$MASTER_PORT"; else echo $((MORE_MASTERS_PORT + $1)); fi; }

# Where the n-th master speaks S3.
s3_port() { if (($1 == 1)); then echo "$S3_PORT"; else echo $((MORE_S3_PORT + $1)); fi; }

# How containers reach the masters 1 to N, separated by commas.
master_list() {
  local n list=
  for ((n = 1; n <= $1; n++)); do
    list+=${list:+,}http://$(master_name "$n"):$(master_port "$n")
  done
  echo "$list"
}

# The number of a master that runs.
live_master() {
  local n
  for ((n = 1; n <= MASTERS_MAX; n++)); do
    if running "$(master_name "$n")"; then
      echo "$n"
      return
    fi
  done
  die "no master is running: ./docker.sh up"
}

# await WHAT URL PATTERN: until the answer at URL matches.
await() {
  local deadline=$((SECONDS + HEALTH_DEADLINE_SECONDS)) answer=
  until answer=$(curl --silent --max-time 2 --write-out ' %{http_code}' "$2") && [[ $answer =~ $3 ]]; do
    if ((SECONDS >= deadline)); then
      all_logs >&2 || true
      die "$1 within $HEALTH_DEADLINE_SECONDS s: $2 says $answer"
    fi
    sleep 0.2
  done
}

# barge in the container of master N, as an operator would.
barge() {
  local n=$1
  shift
  docker exec "$(master_name "$n")" /barge --url "http://localhost:$(master_port "$n")" "$@"
}

waits() {
  curl --silent --max-time 5 "http://localhost:$(master_port "$1")/_/health" | grep --quiet '"waiting"'
}

# Masters that wait begin a cluster together, or join the one there is: a master that was wiped never begins
# one by itself.
join_masters() {
  local masters=$1 n member=0 list
  local -a waiting=()
  for ((n = 1; n <= masters; n++)); do
    await "$(master_name "$n") did not start" "http://localhost:$(master_port "$n")/_/health" server
    if waits "$n"; then waiting+=("$n"); else member=$n; fi
  done
  if ((member == 0)); then
    list=$(master_list "$masters")
    # shellcheck disable=SC2086 # one argument a master
    barge 1 cluster init --secret-file /run/barge-secret ${list//,/ } >/dev/null
    return
  fi
  for n in "${waiting[@]}"; do
    barge "$member" cluster masters add --secret-file /run/barge-secret \
      "http://$(master_name "$n"):$(master_port "$n")" >/dev/null
  done
}

# ---------------------------------------------------------------- verbs

verb_up() {
  local volumes=3 masters=1 n list
  while (($#)); do
    case $1 in
      --volumes)
        (($# > 1)) || die "--volumes needs a number"
        volumes=$2
        shift 2
        ;;
      --volumes=*)
        volumes=${1#*=}
        shift
        ;;
      --masters)
        (($# > 1)) || die "--masters needs a number"
        masters=$2
        shift 2
        ;;
      --masters=*)
        masters=${1#*=}
        shift
        ;;
      *) die "up knows --masters M and --volumes N, not $1" ;;
    esac
  done
  if ! [[ $volumes =~ ^[1-9][0-9]?$ ]] || ((volumes > VOLUMES_MAX)); then
    die "--volumes must be between 1 and $VOLUMES_MAX"
  fi
  [[ $masters =~ ^[1-7]$ ]] || die "--masters must be between 1 and $MASTERS_MAX; three survive the loss of one"

  build
  docker network inspect "$NETWORK" >/dev/null 2>&1 || docker network create --label "$LABEL" "$NETWORK" >/dev/null
  local -a alone=()
  ((masters == 1)) || alone=(--wait)
  for ((n = 1; n <= masters; n++)); do
    run "$(master_name "$n")" "$(master_port "$n") $(s3_port "$n")" master \
      --s3-listen "0.0.0.0:$(s3_port "$n")" \
      --advertise "http://$(master_name "$n"):$(master_port "$n")" \
      --replicas $((volumes < 2 ? volumes : 2)) "${alone[@]}"
  done
  ((masters == 1)) || join_masters "$masters"
  list=$(master_list "$masters")
  for ((n = 1; n <= volumes; n++)); do
    local port=$((MASTER_PORT + n))
    run "volume$n" "$port" volume --advertise "http://volume$n:$port" --master "$list"
  done
  local base=http://localhost:$MASTER_PORT
  for ((n = 1; n <= masters; n++)); do
    await "the cluster does not take values" "http://localhost:$(master_port "$n")/_/health" ' 200$'
  done
  cat <<TEXT
Barge is ready on $base

  curl -L -T FILE $base/KEY          # store a file
  curl -L $base/KEY -o FILE          # fetch it
  curl -L -X DELETE $base/KEY        # delete it; its space is freed at once

S3 is spoken on http://localhost:$S3_PORT (further masters: $((MORE_S3_PORT + 2)) …): any key id, with the secret bargebarge.

  ./docker.sh demo                # all of that, checked
  ./docker.sh kill volume2        # then demo again
  ./docker.sh down                # stop; REMOVES THE DATA
TEXT
}

verb_status() {
  local n
  n=$(live_master)
  docker ps --all --filter "label=$LABEL" --format 'table {{.Names}}\t{{.Status}}\t{{.Ports}}'
  echo
  barge "$n" cluster status --secret-file /run/barge-secret
}

# call WANTED FILE ARGUMENTS...: curl, the answer's body into FILE; its status must match WANTED.
call() {
  local wanted=$1 file=$2 status
  shift 2
  status=$("${CURL[@]}" --write-out '%{http_code}' --output "$file" "$@" 2>"$demo_dir/curl.log") ||
    { cat "$demo_dir/curl.log" >&2; die "curl $* failed"; }
  [[ $status =~ ^($wanted)$ ]] ||
    { head -c 1000 "$file" >&2; die "curl $* answered $status, not $wanted"; }
}

verb_demo() {
  demo_dir=$(mktemp -d)
  trap 'rm -rf "$demo_dir"' EXIT
  local key sum answer=$demo_dir/answer n URL
  n=$(live_master)
  URL=http://localhost:$(master_port "$n")
  key=demo/$(date +%s)-$$
  head -c $((64 << 20)) /dev/urandom >"$demo_dir/value"
  sum=$(sha256sum <"$demo_dir/value")

  # 201, or 200 when an attempt before this one was stored and only its answer was lost.
  call '201|200' "$answer" --upload-file "$demo_dir/value" "$URL/$key"
  echo "put     64 MiB as $key"
  call 200 "$demo_dir/back" "$URL/$key"
  [[ $(sha256sum <"$demo_dir/back") == "$sum" ]] || die "$key came back with other bytes"
  echo "get     the same bytes (SHA-256 ${sum%% *})"
  call 200 "$demo_dir/back" "http://localhost:$(s3_port "$n")/$key"
  [[ $(sha256sum <"$demo_dir/back") == "$sum" ]] || die "$key came back by S3 with other bytes"
  echo "get     the same bytes by S3, as an object of the bucket demo"
  call 200 "$answer" "$URL/demo/?list"
  grep --quiet --fixed-strings "\"$key\"" "$answer" || { cat "$answer" >&2; die "$key is not in the list"; }
  echo "list    names it"
  call 200 "$answer" --request DELETE "$URL/$key"
  call 404 "$answer" "$URL/$key"
  echo "delete  done: a further GET is 404"
}

verb_kill() {
  local name
  name=$(container "${1:?kill whom? for example: kill volume2}")
  running "$name" || die "$name is not running"
  docker kill --signal KILL "$name" >/dev/null
  case $name in
    "$MASTER"*) echo "$name is killed; where there are three masters another leads within 3 s" ;;
    *) echo "$name is killed; the master passes it over within 3 s" ;;
  esac
}

verb_start() {
  local name
  name=$(container "${1:?start whom? for example: start volume2}")
  docker start "$name" >/dev/null
  echo "$name is started"
}

verb_logs() {
  if (($#)); then
    docker logs "$(container "$1")" 2>&1
  else
    all_logs
  fi
}

all_logs() {
  local name
  for name in $(containers); do
    docker logs "$name" 2>&1 | sed "s/^/$name  /"
  done
}

verb_down() {
  local -a names volumes
  mapfile -t names < <(containers)
  ((${#names[@]} == 0)) || docker rm --force "${names[@]}" >/dev/null
  mapfile -t volumes < <(docker volume ls --quiet --filter "label=$LABEL")
  ((${#volumes[@]} == 0)) || docker volume rm "${volumes[@]}" >/dev/null
  ! docker network inspect "$NETWORK" >/dev/null 2>&1 || docker network rm "$NETWORK" >/dev/null
  echo "the cluster is down; its ${#names[@]} containers and their data are removed"
}

main() {
  local verb=${1:-}
  (($# == 0)) || shift
  case $verb in
    up | status | demo | kill | start | logs | build | daemon | down)
      command -v curl >/dev/null || die "curl is needed: apt-get install curl"
      need_docker
      case $verb in
        daemon) ;;
        build) build ;;
        *) "verb_$verb" "$@" ;;
      esac
      ;;
    help | -h | --help) usage ;;
    *) usage >&2 && exit 2 ;;
  esac
}

main "$@"
