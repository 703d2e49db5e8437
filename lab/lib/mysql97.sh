# shellcheck shell=bash
# MySQL 9.7, or the machine's own mysqld where that is 8 or newer: vtgate's store, and
# a modern legacy (caching_sha2_password, TLS 1.3). Of Debian's suites only sid has it.

# modern_mysqld: the path of a mysqld >= 8 on PATH that is MySQL's, or nothing.
modern_mysqld() {
  local path version
  path=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mysqld) || return 1
  version=$("$path" --no-defaults --version 2>/dev/null) || return 1
  [[ $version != *MariaDB* && $version =~ Ver\ ([0-9]+)\. && ${BASH_REMATCH[1]} -ge 8 ]] || return 1
  printf '%s\n' "$path"
}

install_mysql97() {
  if modern_mysqld >/dev/null; then
    MYSQL97=mysqld-$(short_key "$(modern_mysqld) $("$(modern_mysqld)" --version)")
    cached "$MYSQL97" copy_modern_mysqld
  elif is_debian; then
    MYSQL97=mysql97
    cached "$MYSQL97" unpack_mysql97
  else
    die "there is no mysqld 8 or newer on PATH, and this is no Debian, from where the lab could take one." \
      "Install the system's mysql-server package (8.0 or newer)."
  fi
  set_mysql97_command
  template "$MYSQL97" initialize_mysql97
}

# AppArmor confines a distribution's mysqld, by its path, to /var/lib/mysql; a copy may
# write where the lab does.
copy_modern_mysqld() {
  step "using the machine's own $(modern_mysqld)"
  cp -L "$(modern_mysqld)" "$1/mysqld"
  printf '%s\n' "$(dirname "$(dirname "$(realpath "$(modern_mysqld)")")")" >"$1/basedir"
}

unpack_mysql97() { unpack_debian sid "$1" mysql-server-core; }

set_mysql97_command() {
  local dir=$SERVED/programs/$MYSQL97
  if [ -e "$dir/basedir" ]; then
    MYSQL97_COMMAND=("$dir/mysqld" --no-defaults "--basedir=$(<"$dir/basedir")")
  else
    run_in "$dir"
    MYSQL97_COMMAND=("${RUN_IN[@]}" "$dir/usr/sbin/mysqld" --no-defaults "--basedir=$dir/usr"
      "--plugin-dir=$dir/usr/lib/mysql/plugin" "--lc-messages-dir=$dir/usr/share/mysql"
      "--character-sets-dir=$dir/usr/share/mysql/charsets")
  fi
  MYSQL97_COMMAND+=(--secure-file-priv=NULL)
}

initialize_mysql97() {
  step "initialising a data directory of MySQL"
  logged "$BUILD_LOG" "${AS_LAB_USER[@]}" "${MYSQL97_COMMAND[@]}" --initialize-insecure "--datadir=$1" ||
    { show_tail "$BUILD_LOG"; die "mysqld --initialize-insecure failed." "The reason is above and in $BUILD_LOG."; }
  rm -f "$1/auto.cnf"
}

# start_mysql97 NAME PORT FLAG…
start_mysql97() {
  local name=$1 port=$2
  shift 2
  copy_template "$MYSQL97" "$WORK/$name"
  spawn "$name" "${MYSQL97_COMMAND[@]}" "--datadir=$WORK/$name" "--socket=$WORK/$name.sock" "--pid-file=$WORK/$name/pid" \
    --bind-address=127.0.0.1 "--port=$port" --mysqlx=OFF --skip-name-resolve --performance-schema=OFF \
    --max-connections=3000 --max-allowed-packet=64M --character-set-server=utf8mb4 "$@"
}
