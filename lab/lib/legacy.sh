# shellcheck shell=bash
# The legacy: which server it is, its accounts, its databases, the demo's tables.

set_legacy() {
  case $LAB_LEGACY in
    mysql56 | mysql97 | mariadb) ;;
    *) die "LAB_LEGACY=$LAB_LEGACY is no legacy the lab knows." "Choose mysql56 (the default), mysql97 or mariadb." ;;
  esac
}

install_legacy() { "install_$LAB_LEGACY"; }

start_legacy() {
  local flags=("--server-id=$LAB_SERVER_ID" --binlog-format=ROW --log-bin=mysql-bin --log-slave-updates
    --sync-binlog=0 --innodb-flush-log-at-trx-commit=2)
  case $LAB_LEGACY in
    mysql56) flags+=(--gtid-mode=ON --enforce-gtid-consistency) ;;
    mysql97) flags=("${flags[@]/--log-slave-updates/--log-replica-updates}" --gtid-mode=ON --enforce-gtid-consistency) ;;
  esac
  step "starting the legacy ($LAB_LEGACY) on port $LEGACY_PORT"
  LEGACY_ROOT_SOCKET=$WORK/legacy.sock
  "start_$LAB_LEGACY" legacy "$LEGACY_PORT" "${flags[@]}"
}

await_legacy() {
  await legacy "$LAB_WAIT_S" root_sql "$LEGACY_ROOT_SOCKET" -e 'select 1'
  { legacy_accounts; cat "$LAB/schema/legacy.sql"; } | root_sql "$LEGACY_ROOT_SOCKET" 2>"$LAB_RUN/legacy.sql.log" ||
    { show_tail "$LAB_RUN/legacy.sql.log"; die "the legacy refused the lab's accounts or tables." "The reason is above; the SQL is in lab/lib/legacy.sh and lab/schema/legacy.sql."; }
  rm -f "$LAB_RUN/legacy.sql.log"
  if [ "$LAB_LEGACY" = mysql97 ]; then
    cp "$WORK/legacy/ca.pem" "$LAB_RUN/legacy-ca.pem"
  fi
  await legacy "$LAB_WAIT_S" legacy_answers "$LAB_LEGACY" "$LEGACY_PORT"
  step "the legacy is ready: $(root_sql "$LEGACY_ROOT_SOCKET" -Nse 'select @@version')"
}

# legacy_answers LEGACY PORT: the app may log in and read.
legacy_answers() {
  user_sql app "$2" "$(legacy_tls "$1")" -e 'use app; select 1; use scratch; select 1'
}

# legacy_tls LEGACY: the client's flag. Of the three only 9.7 has TLS worth the name, and
# its logins want it.
legacy_tls() { if [ "$1" = mysql97 ]; then echo --ssl; else echo --skip-ssl; fi; }

legacy_accounts() {
  cat <<'SQL'
create database app character set utf8mb4;
create database scratch character set utf8mb4;
create user 'app'@'%' identified by 'app';
grant all on app.* to 'app'@'%';
grant all on scratch.* to 'app'@'%';
create user 'understudy'@'%' identified by 'understudy';
grant process, replication client, super on *.* to 'understudy'@'%';
grant all on app.* to 'understudy'@'%';
grant all on scratch.* to 'understudy'@'%';
SQL
  # What SUPER was split into, where it was.
  case $LAB_LEGACY in
    mysql97) echo "grant connection_admin, system_variables_admin, session_variables_admin, xa_recover_admin, binlog_admin, replication_slave_admin on *.* to 'understudy'@'%';" ;;
    mariadb) echo "grant connection admin, read_only admin, binlog admin, set user, replication slave admin on *.* to 'understudy'@'%';" ;;
  esac
}
