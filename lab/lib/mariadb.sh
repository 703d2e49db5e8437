# shellcheck shell=bash
# MariaDB 10.11, a legacy too, and the client with which the lab talks to every server.
# Bookworm's packages, in a directory of their own; elsewhere the machine's own server. (MySQL's client of today knows no
# mysql_native_password and cannot log in to vtgate or to MySQL 5.6.)

install_mariadb() {
  if is_debian; then
    MARIADB=mariadb
    cached "$MARIADB" unpack_mariadb
  elif machine_mariadbd >/dev/null; then
    MARIADB=mariadbd-$(short_key "$(machine_mariadbd) $("$(machine_mariadbd)" --version)")
    cached "$MARIADB" copy_machine_mariadbd
  else
    die "there is neither a MySQL 8 (mysqld) nor a MariaDB (mariadbd) on PATH, and this is no Debian, from where the lab could take one." \
      "Install the system's mysql-server (8.0 or newer) or mariadb-server."
  fi
  set_mariadb_command
  template "$MARIADB" fill_mariadb
}

machine_mariadbd() { PATH=$PATH:/usr/sbin:/usr/libexec:/usr/local/sbin command -v mariadbd; }

# A copy, for AppArmor's sake: see mysql97.sh.
copy_machine_mariadbd() {
  step "using the machine's own $(machine_mariadbd)"
  cp -L "$(machine_mariadbd)" "$1/mariadbd"
  printf '%s\n' "$(dirname "$(dirname "$(realpath "$(machine_mariadbd)")")")" >"$1/basedir"
}

unpack_mariadb() { unpack_debian bookworm "$1" mariadb-server-core mariadb-client-core libmariadb3; }

set_mariadb_command() {
  local dir=$SERVED/programs/$MARIADB
  if [ -e "$dir/basedir" ]; then
    MARIADB_BASE=$(<"$dir/basedir")
    MARIADB_COMMAND=("$dir/mariadbd" --no-defaults "--basedir=$MARIADB_BASE")
  else
    MARIADB_BASE=$dir/usr
    run_in "$dir"
    MARIADB_COMMAND=("${RUN_IN[@]}" "$dir/usr/sbin/mariadbd" --no-defaults "--basedir=$MARIADB_BASE"
      "--plugin-dir=$dir/usr/lib/mysql/plugin" "--lc-messages-dir=$dir/usr/share/mysql"
      "--character-sets-dir=$dir/usr/share/mysql/charsets")
  fi
  MARIADB_COMMAND+=(--skip-name-resolve --performance-schema=OFF)
}

# What mariadb-install-db does, less the anonymous users: the system tables from the
# package's own SQL, fed to a server in bootstrap mode.
fill_mariadb() {
  local dir=$1 sql
  step "preparing a data directory of MariaDB"
  mkdir "$dir/mysql"
  [ ${#AS_LAB_USER[@]} -eq 0 ] || chown "$LAB_USER:$LAB_USER" "$dir/mysql"
  {
    printf '%s\n' 'create database if not exists mysql;' 'use mysql;' # a statement a line
    # Newer ones call the files mariadb_*, some systems the directory too.
    for sql in system_tables.sql system_tables_data.sql; do
      cat "$MARIADB_BASE"/share/{mysql,mariadb}/{mysql,mariadb}_"$sql" 2>/dev/null || true
    done
    echo "delete from global_priv where user = '';"
  } | "${AS_LAB_USER[@]}" "${MARIADB_COMMAND[@]}" --bootstrap "--datadir=$dir" --log-warnings=0 >>"$BUILD_LOG" 2>&1 ||
    { show_tail "$BUILD_LOG"; die "MariaDB could not make its system tables." "The reason is above and in $BUILD_LOG."; }
}

# start_mariadb NAME PORT FLAG…
start_mariadb() {
  local name=$1 port=$2
  shift 2
  copy_template "$MARIADB" "$WORK/$name"
  spawn "$name" "${MARIADB_COMMAND[@]}" "--datadir=$WORK/$name" "--socket=$WORK/$name.sock" "--pid-file=$WORK/$name/pid" \
    --bind-address=127.0.0.1 "--port=$port" \
    --proxy-protocol-networks=127.0.0.1 \
    --max-connections=3000 --max-allowed-packet=64M --character-set-server=utf8mb4 "$@"
}
