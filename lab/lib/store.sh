# shellcheck shell=bash
# vtgate's store: the MySQL below the shadow.

set_store() {
  if [ -z "${LAB_STORE:-}" ]; then
    if modern_mysqld >/dev/null || is_debian; then LAB_STORE=mysql97; else LAB_STORE=mariadb; fi
  fi
  case $LAB_STORE in
    mysql97 | mariadb) ;;
    *) die "LAB_STORE=$LAB_STORE is no store the lab knows." "Choose mysql97 or mariadb, or unset it and take what is here." ;;
  esac
}

install_store() { "install_$LAB_STORE"; }

start_store() {
  local flags=(--server-id=2 --log-bin=mysql-bin --binlog-format=ROW --sync-binlog=0 --innodb-flush-log-at-trx-commit=2)
  [ "$LAB_STORE" != mysql97 ] || flags+=(--gtid-mode=ON --enforce-gtid-consistency)
  step "starting the shadow's store ($LAB_STORE) on port $SHADOW_STORE_PORT"
  SHADOW_STORE_ROOT_SOCKET=$WORK/store.sock
  "start_$LAB_STORE" store "$SHADOW_STORE_PORT" "${flags[@]}"
}

await_store() {
  await store "$LAB_WAIT_S" root_sql "$SHADOW_STORE_ROOT_SOCKET" -e 'select 1'
  store_accounts | root_sql "$SHADOW_STORE_ROOT_SOCKET" ||
    die "the shadow's store refused the lab's accounts." "The reason is above; the SQL is in lab/lib/store.sh."
  step "the shadow's store is ready: $(root_sql "$SHADOW_STORE_ROOT_SOCKET" -Nse 'select @@version')"
}

# vtgate's tablets come over the socket. Whoever wants to look behind vtgate may come
# over TCP, as understudy.
store_accounts() {
  cat <<'SQL'
create user vt_dba@localhost;
grant all on *.* to vt_dba@localhost with grant option;
create user 'understudy'@'%' identified by 'understudy';
grant all on *.* to 'understudy'@'%';
SQL
}
