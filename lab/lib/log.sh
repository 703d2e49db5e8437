# shellcheck shell=bash
# What the lab says: a line for each step, and why one failed.

say() { printf 'lab: %s\n' "$*"; }

# step WHAT…: a line of progress, with the seconds since the command began.
step() { printf 'lab: %3ss  %s\n' "$SECONDS" "$*"; }

# die WHAT HAPPENED, WHOSE FAULT, WHAT TO DO. One argument a line.
die() {
  printf 'lab: failed: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf 'lab:         %s\n' "$@" >&2
  exit 1
}

# show_tail FILE: the end of a log, for the reason of a failure.
show_tail() {
  [ -s "$1" ] || { printf '  | (%s is empty)\n' "$1" >&2; return 0; }
  tail -n 15 "$1" | cut -c1-300 | sed 's/^/  | /' >&2
}

# logged FILE COMMAND…: runs it with its output in FILE, and without our locks.
logged() {
  local log=$1
  shift
  "$@" >>"$log" 2>&1 </dev/null 8>&- 9>&-
}
