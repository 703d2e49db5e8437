# shellcheck shell=bash
# The end of a lab: by `down`, by its own time, or because `up` failed.

# take_down: the servers in the order in which they lean on each other, then what they
# wrote. The logs stay, until the next `up`.
take_down() {
  local name
  rm -f "$LAB_RUN/env"
  if [ -e "$WORK/servers" ]; then
    for name in shadow legacy store etcd watchdog; do stop "$name"; done
  fi
  rm -rf "$WORK"
  rm -f "$LAB_RUN/probe.log" "$LAB_RUN/legacy-ca.pem" "$LAB_RUN/env.new"
  rmdir "$LAB_RUN" 2>/dev/null || true
}

# set_end: the lab lives LAB_TTL_S from now, or longer if it was to.
set_end() {
  local now end=0
  now=$(date +%s)
  [ ! -e "$WORK/end" ] || end=$(<"$WORK/end")
  [ "$end" -ge $((now + LAB_TTL_S)) ] || end=$((now + LAB_TTL_S))
  echo "$end" >"$WORK/end.new"
  mv "$WORK/end.new" "$WORK/end"
}

start_watchdog() {
  spawn_here watchdog setsid env "LAB_RUN=$LAB_RUN" "UNDERSTUDY_LAB_HOME=$LAB_HOME" bash "$LAB/lib/watchdog.sh"
}
