# shellcheck shell=bash
# What the blocks of docs-commands are run with: programs that do not end by themselves are ended, one that
# would ask for a password is told it, a request that is refused fails, and the words of the comments in the
# pages (`<!-- sh run`) are here. `work` is the first hour's directory.

set -Eeuo pipefail
program=$DOCS_WORK/bin/understudy
served=$DOCS_WORK/pid
where=
said=

# Whoever was started here ends with it.
finish() {
  stop_serving
  local pid
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
}
trap finish EXIT
trap 'echo "docs-commands: $where: failed: $BASH_COMMAND" >&2' ERR

# within SECONDS COMMAND…: tries until it works; fails where it never does.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ $SECONDS -ge $end ]; then
      echo "in vain: $*" >&2
      return 1
    fi
    sleep 0.1
  done
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# Ends the understudy that serves, if one does.
stop_serving() {
  [ -s "$served" ] || return 0
  local pid
  pid=$(cat "$served")
  rm -f "$served"
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = understudy ] || return 0
  kill "$pid"
  within 60 is_gone "$pid"
}

# Serves in the place of the one that did, or takes over from it, and is ready.
serve() {
  if [ "$BASHPID" != $$ ]; then
    # With a & behind it: whoever wrote that waits themselves.
    echo "$BASHPID" >"$served"
    exec "$program" "$@"
  fi
  case " $* " in *" --take-over "*) ;; *) stop_serving ;; esac
  "$program" "$@" 2>>"$DOCS_WORK/understudy.log" &
  echo $! >"$served"
  within 60 answers $!
}

answers() {
  if is_gone "$1"; then
    tail -n 5 "$DOCS_WORK/understudy.log" >&2
    echo "it ended at its start" >&2
    exit 1
  fi
  command curl -sf "$UNDERSTUDY_ADMIN/readyz" >/dev/null
}

understudy() {
  case " $* " in
    " serve "*) serve "$@" ;;
    " cutover --to "*)
      # Latency is judged of what was timed since the process began.
      traffic
      "$program" "$@"
      ;;
    " tail "*) watched 'SELECT id FROM orders' understudy "$@" ;;
    " status --watch "*) on_a_terminal "$@" ;;
    " verify --config "*)
      # With no understudy running.
      stop_serving
      "$program" "$@" || is_in_part $?
      # shellcheck disable=SC2154 # the first block's
      serve serve --config "$work/understudy.toml"
      ;;
    " verify "*) "$program" "$@" || is_in_part $? ;;
    *) "$program" "$@" ;;
  esac
}

# is_in_part CODE: nothing differs and not all was read. The lab has tables of which no key says on which shard a
# row is to be; where the text says with what verify exits, that is held to.
is_in_part() {
  [ "$1" -eq 2 ] && [ -z "$said" ] || return "$1"
}

# Some commands of an application.
traffic() {
  local n
  for n in 1 2 3 4 5 6; do
    mysql -h 127.0.0.1 -P 3306 -u app -papp --skip-ssl app -e "SELECT id FROM orders WHERE id = $n"
    sleep 0.3
  done
}

# watched WORD PROGRAM ARGUMENT…: what prints until it is ended, while there is something to print, and this among it.
watched() {
  local code=0 word=$1
  shift
  traffic &
  timeout 4 "$@" >"$DOCS_WORK/watched" || code=$?
  wait $!
  [ $code -eq 124 ]
  grep -q "$word" "$DOCS_WORK/watched"
}

# A dashboard, left with q.
on_a_terminal() {
  (sleep 2; printf q) | timeout 30 script -qec "stty rows 40 cols 120; understudy $*" "$DOCS_WORK/screen"
  grep -q vitess "$DOCS_WORK/screen"
}

curl() {
  case " $* " in
    *" -sN "*/events*) watched '^event: roles' curl "$@" ;;
    *" -sN "*) watched 'SELECT id FROM orders' curl "$@" ;;
    *" -sf "*) command curl "$@" ;;
    *) command curl --fail-with-body "$@" ;;
  esac
}

mysql() {
  local word words=()
  for word; do
    [ "$word" != -p ] || word=-papp
    words+=("$word")
  done
  command mysql "${words[@]}"
}

# What weeks of an application's commands bring: guards that this lab's pass, and a short soak.
weeks_pass() {
  stop_serving
  sed -i 's/^soak_s = .*/soak_s = 1/' "$work/understudy.toml"
  cat >>"$work/understudy.toml" <<'EOF'

[readiness]
evidence_s = 0
evidence_hours = 1
evidence_commands = 1
coverage_commands = 0.5
coverage_fingerprints = 0.5
coverage_tables = 0.5
latency_samples = 5
latency_p50_ms = 10000
latency_p99_ms = 10000
EOF
  serve serve --config "$work/understudy.toml"
  traffic
}

# is_at STATE: how the cutover stands.
is_at() { [ "$(command curl -s "$UNDERSTUDY_ADMIN/api/v1/cutover" | jq -r .state)" = "$1" ]; }

# in_a_fleet NAME CLIENTS ADMIN: a proxy of the fleet, at these ports.
in_a_fleet() {
  rm -f "$work/$1".*
  sed -E "s/^\[cutover\]/[cutover]\nfence = true/; s/^console = .*/console = \"\"/
    s/^address = \"127.0.0.1:3306\"/address = \"127.0.0.1:$2\"/; s/^address = \"127.0.0.1:8306\"/address = \"127.0.0.1:$3\"/
    s#understudy\.db#$1.db#; s#divergences\.jsonl#$1.jsonl#" "$work/understudy.toml" >"$work/$1.toml"
  printf '\n[fleet]\netcd = ["%s"]\nname = "%s"\nprefix = "/guide-%d/"\n' "$ETCD_URL" "$1" $$ >>"$work/$1.toml"
  "$program" serve --config "$work/$1.toml" 2>>"$DOCS_WORK/$1.log" &
  within 60 command curl -sf "http://127.0.0.1:$3/readyz"
}

free_port() { python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'; }
