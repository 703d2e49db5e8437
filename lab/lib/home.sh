# shellcheck shell=bash
# Where the lab keeps things, and as whom its servers run.
#
#   LAB_HOME   what was downloaded and built; safe to delete while no lab is up
#   SERVED     what the servers read and write: programs, templates, data, sockets
#   LAB_RUN    what callers read: env, the logs, the list of servers
#   WORK       this run's part of SERVED: data directories and sockets
#
# mysqld and vtgate refuse to run as root, so root starts them as a user of their
# own. That user cannot look into root's home, where LAB_HOME is: what it needs is
# hard-linked below its own home. Anyone else runs the servers as oneself, and
# SERVED is LAB_HOME.

umask 022

LAB_USER=understudy-lab
LAB_USER_HOME=/var/lib/understudy-lab

# short_key TEXT: a name for a path, short because a socket's path is limited to 107 bytes.
short_key() { printf '%s' "$1" | sha256sum | cut -c1-10; }

make_directory() {
  mkdir -p "$1" || die "cannot make the directory $1." "Free the path, or choose another with $2."
}

set_home() {
  local home=${UNDERSTUDY_LAB_HOME:-${HOME:?is not set; set it or UNDERSTUDY_LAB_HOME}/.cache/understudy-lab}
  make_directory "$home" UNDERSTUDY_LAB_HOME
  LAB_HOME=$(realpath "$home")
  LAB_RUN=$(realpath -m "${LAB_RUN:-$LAB/run}")
  if [ "$(id -u)" -eq 0 ]; then
    SERVED=$LAB_USER_HOME/$(short_key "$LAB_HOME")
    AS_LAB_USER=(setpriv "--reuid=$LAB_USER" "--regid=$LAB_USER" --clear-groups --no-new-privs)
  else
    SERVED=$LAB_HOME
    AS_LAB_USER=()
  fi
  WORK=$SERVED/run/$(short_key "$LAB_RUN")
  [ ${#WORK} -le 85 ] || die "the path $WORK is too long for a Unix socket." \
    "Set UNDERSTUDY_LAB_HOME to a shorter path."
}

make_home() {
  make_directory "$LAB_HOME/locks" UNDERSTUDY_LAB_HOME
  make_directory "$LAB_HOME/ports" UNDERSTUDY_LAB_HOME
  make_directory "$LAB_HOME/programs" UNDERSTUDY_LAB_HOME
  make_directory "$LAB_HOME/log" UNDERSTUDY_LAB_HOME
  [ "$(id -u)" -ne 0 ] || make_lab_user
  make_directory "$SERVED/programs" UNDERSTUDY_LAB_HOME
  make_directory "$SERVED/templates" UNDERSTUDY_LAB_HOME
  make_directory "$SERVED/run" UNDERSTUDY_LAB_HOME
}

make_lab_user() {
  if ! id "$LAB_USER" >/dev/null 2>&1; then
    step "making the system user $LAB_USER: mysqld and vtgate refuse to run as root"
    useradd --system --user-group --no-create-home --home-dir "$LAB_USER_HOME" \
      --shell /usr/sbin/nologin "$LAB_USER" 2>>"$LAB_HOME/log/useradd.log" ||
      id "$LAB_USER" >/dev/null 2>&1 ||
      { show_tail "$LAB_HOME/log/useradd.log"; die "useradd could not make the user $LAB_USER." "Make it by hand, or run the lab as a user other than root."; }
  fi
  make_directory "$LAB_USER_HOME" UNDERSTUDY_LAB_HOME
}

# fresh_directory DIR: empty, and the servers' own.
fresh_directory() {
  rm -rf "${1:?}"
  mkdir -p "$1"
  [ ${#AS_LAB_USER[@]} -eq 0 ] || chown "$LAB_USER:$LAB_USER" "$1"
}

# lock FD FILE WHAT: waits for another lab command, and says so unless WHAT, which it may
# be doing, is empty. The lock ends with this process.
lock() {
  local fd=$1 file=$2 what=$3
  case $fd in
    8) exec 8>"$file" ;;
    9) exec 9>"$file" ;;
  esac
  flock -n "$fd" && return
  [ -z "$what" ] || step "waiting for another lab command, which $what"
  flock -w 1800 "$fd" || die "another lab command still ${what:-chooses its ports} after 30 minutes." \
    "It may hang: see who holds $file (fuser), and end it."
}

# cached NAME BUILD…: makes programs/NAME once for all labs. BUILD gets the directory
# to fill as its last argument and a log file in $BUILD_LOG.
cached() {
  local name=$1
  shift
  local kept=$LAB_HOME/programs/$name served=$SERVED/programs/$name
  [ ! -e "$served" ] || return 0
  lock 9 "$LAB_HOME/locks/$name" "installs $name"
  if [ ! -e "$kept" ]; then
    BUILD_LOG=$LAB_HOME/log/$name.log
    : >"$BUILD_LOG"
    rm -rf "$kept.new"
    mkdir "$kept.new"
    "$@" "$kept.new"
    chmod -R a+rX "$kept.new"
    mv -T "$kept.new" "$kept"
  fi
  if [ ! -e "$served" ]; then
    rm -rf "$served.new"
    cp -al "$kept" "$served.new" 2>/dev/null || { rm -rf "$served.new"; cp -a "$kept" "$served.new"; }
    mv -T "$served.new" "$served"
  fi
  exec 9>&-
}

# template NAME FILL…: a data directory made once and copied for each run. FILL gets
# the directory, which belongs to the servers' user, as its last argument.
template() {
  local name=$1
  shift
  local kept=$SERVED/templates/$name
  [ ! -e "$kept" ] || return 0
  lock 9 "$LAB_HOME/locks/template-$name" "prepares a data directory of $name"
  if [ ! -e "$kept" ]; then
    BUILD_LOG=$LAB_HOME/log/template-$name.log
    : >"$BUILD_LOG"
    fresh_directory "$kept.new"
    "$@" "$kept.new"
    mv -T "$kept.new" "$kept"
  fi
  exec 9>&-
}

# copy_template NAME DIR: a fresh data directory, its holes kept.
copy_template() {
  rm -rf "${2:?}"
  cp -a --sparse=always --reflink=auto "$SERVED/templates/$1" "$2" ||
    die "cannot copy the data directory $SERVED/templates/$1 to $2." "Is the disk full?"
}
