# shellcheck shell=bash
# Prometheus and its promtool, for deploy/'s alerts: the machine's own where it has both, else Debian's package in a
# directory of its own: installed, it would run as a service too.

# set_program NAME: sets PROGRAM to the command that runs prometheus or promtool.
set_program() {
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    # shellcheck disable=SC2034 # for the caller
    PROGRAM=("$1")
    return
  fi
  is_debian || die "there is no prometheus on PATH, and this is no Debian, from where the lab could take one." \
    "Install the system's package of it (prometheus), with promtool."
  cached prometheus unpack_prometheus
  run_in "$SERVED/programs/prometheus"
  # shellcheck disable=SC2034 # for the caller
  PROGRAM=("${RUN_IN[@]}" "$SERVED/programs/prometheus/usr/bin/$1")
}

unpack_prometheus() { unpack_debian bookworm "$1" prometheus; }
