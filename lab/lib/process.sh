# shellcheck shell=bash
# Server processes: started detached, known by pid and start time, stopped in order.
# A pid alone is not enough: once its process is gone the number may be another's.
#
# $WORK/servers has a line for each: NAME PID START_TIME, in the order of starting.

# start_time PID: in ticks since boot; fails when there is no such process, or a zombie.
start_time() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] || return 1
  printf '%s\n' "${fields[19]}"
}

# alive PID START_TIME
alive() { [ "$(start_time "$1")" = "$2" ]; }

# pid_of NAME, empty when it does not run
pid_of() {
  local name pid started
  while read -r name pid started; do
    if [ "$name" = "$1" ] && alive "$pid" "$started"; then
      printf '%s\n' "$pid"
      return
    fi
  done <"$WORK/servers"
}

# spawn NAME COMMAND…: as the servers' user, in a session of its own, with its output in
# $LAB_RUN/NAME.log. setsid, setpriv and env exec, so the pid is the server's own.
# The command is kept for `restart`.
spawn() {
  local name=$1
  shift
  printf '%q ' "$@" >"$WORK/$name.command"
  spawn_here "$name" setsid "${AS_LAB_USER[@]}" "$@"
}

spawn_here() {
  local name=$1 pid
  shift
  (
    ulimit -Sn "$(file_limit)"
    cd /
    exec "$@"
  ) </dev/null >>"$LAB_RUN/$name.log" 2>&1 8>&- 9>&- &
  pid=$!
  disown "$pid"
  printf '%s %s %s\n' "$name" "$pid" "$(start_time "$pid")" >>"$WORK/servers"
}

# As many files as 3000 connections need, and no more: MySQL 5.6 keeps an array of the
# limit's length.
file_limit() {
  local hard
  hard=$(ulimit -Hn)
  if [ "$hard" = unlimited ] || [ "$hard" -gt 16384 ]; then echo 16384; else echo "$hard"; fi
}

# await NAME SECONDS PROBE…: until PROBE succeeds; it may be asked many times.
await() {
  local name=$1 until=$((SECONDS + $2)) pid
  shift 2
  until "$@" >"$LAB_RUN/probe.log" 2>&1; do
    pid=$(pid_of "$name")
    if [ -z "$pid" ]; then
      show_tail "$LAB_RUN/$name.log"
      die "$name ended before it was ready." "The reason is above and in $LAB_RUN/$name.log."
    elif [ $SECONDS -ge $until ]; then
      show_tail "$LAB_RUN/probe.log"
      show_tail "$LAB_RUN/$name.log"
      die "$name was not ready in time: it runs, but does not answer as it should." \
        "Its last answer and its log are above. A busy machine needs longer: set LAB_WAIT_S (now $LAB_WAIT_S)."
    fi
    sleep 0.1
  done
  rm -f "$LAB_RUN/probe.log"
}

# respawn NAME: stops it, and starts it again over its data, with its own flags.
respawn() {
  local name=$1
  local -a command
  [ -e "$WORK/$name.command" ] || die "no $name was started in $LAB_RUN." "Run lab/up first."
  stop "$name"
  sed -i "/^$name /d" "$WORK/servers"
  eval "command=($(<"$WORK/$name.command"))"
  spawn "$name" "${command[@]}"
}

# stop NAME: what runs under the name. Tests hang servers with SIGSTOP, hence SIGCONT.
stop() {
  local name pid started
  while read -r name pid started; do
    [ "$name" = "$1" ] || continue
    stop_process "$name" "$pid" "$started"
  done <"$WORK/servers"
}

stop_process() {
  local name=$1 pid=$2 started=$3 tenths=${4:-200}
  alive "$pid" "$started" || return 0
  kill -TERM "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true
  while alive "$pid" "$started"; do
    if [ "$tenths" -le 0 ]; then
      step "$name (pid $pid) does not end: SIGKILL"
      kill -KILL "$pid" 2>/dev/null || true
      sleep 0.2
      return 0
    fi
    tenths=$((tenths - 1))
    sleep 0.1
  done
}
