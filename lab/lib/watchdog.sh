# shellcheck shell=bash
# Ends a lab when its time has come. Started by `up`, in a session of its own.
# shellcheck source-path=SCRIPTDIR

LAB=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
. "$LAB/lib/all.sh"

main() {
  local now end nothing
  set_home
  exec {nothing}<> <(:)
  while [ -e "$WORK/end" ]; do
    now=$(date +%s)
    end=$(<"$WORK/end")
    if [ "$now" -ge "$end" ]; then
      lock 8 "$LAB_HOME/locks/run-$(basename "$WORK")" "uses the same run directory"
      # `up` may have set a later end while we waited.
      [ "$(cat "$WORK/end" 2>/dev/null || echo 0)" -le "$now" ] || { exec 8>&-; continue; }
      say "this lab's time (LAB_TTL_S) is over: it ends"
      sed -i "/^watchdog /d" "$WORK/servers" # which would be ourselves
      take_down
      return
    fi
    # The clock is asked once a minute: a machine that slept must not prolong a lab.
    read -r -t $((end - now < 60 ? end - now : 60)) -u "$nothing" || true
  done
}

main
