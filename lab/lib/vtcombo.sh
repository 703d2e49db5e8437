# shellcheck shell=bash
# The shadow: vtgate and its tablets in one process (vtcombo), built from vtcombo/.

set_vtcombo() {
  VTCOMBO=vtcombo-$(cat "$LAB"/vtcombo/{go.mod,go.sum,main.go} | sha256sum | cut -c1-10)
}

install_vtcombo() { cached "$VTCOMBO" build_vtcombo; }

build_vtcombo() {
  command -v go >/dev/null || die "Go is not here, with which vtgate is built." "Install Go 1.21 or newer; it fetches the $(awk '$1 == "go" { print $2 }' "$LAB/vtcombo/go.mod") that vtgate needs by itself."
  step "building vtcombo with Go: 3 to 12 minutes, once (output in $BUILD_LOG)"
  # An older Go fetches the one that go.mod names.
  logged "$BUILD_LOG" go -C "$LAB/vtcombo" build -trimpath -buildvcs=false '-ldflags=-s -w' -o "$1/vtcombo" . ||
    { show_tail "$BUILD_LOG"; die "Go could not build vtcombo." "The reason is above and in $BUILD_LOG."; }
  step "built vtcombo"
}

start_vtcombo() {
  local keyspace user=vt_dba
  step "starting the shadow (vtgate) on port $SHADOW_PORT"
  for keyspace in app scratch lookup; do
    mkdir -p "$WORK/vschema/$keyspace"
    cp "$LAB/schema/$keyspace.vschema.json" "$WORK/vschema/$keyspace/vschema.json"
  done
  fresh_directory "$WORK/vt"
  cat >"$WORK/logins.json" <<'JSON'
{"app": [{"Password": "app", "UserData": "app"}],
 "understudy": [{"Password": "understudy", "UserData": "understudy"}]}
JSON
  spawn shadow env "VTDATAROOT=$WORK/vt" "HOME=$WORK/vt" "$SERVED/programs/$VTCOMBO/vtcombo" \
    --bind-address 127.0.0.1 --port "$SHADOW_WEB_PORT" \
    --grpc-bind-address 127.0.0.1 --grpc-port "$SHADOW_GRPC_PORT" \
    --service-map grpc-vtgateservice,grpc-vtctl,grpc-vtctld \
    --mysql-server-bind-address 127.0.0.1 --mysql-server-port "$SHADOW_PORT" \
    --mysql-auth-server-impl static --mysql-auth-server-static-file "$WORK/logins.json" \
    --proto-topo "$(vtcombo_topology)" --schema-dir "$WORK/vschema" \
    --db-socket "$SHADOW_STORE_ROOT_SOCKET" --db-charset utf8mb4 \
    --db-app-user $user --db-appdebug-user $user --db-allprivs-user $user \
    --db-dba-user $user --db-filtered-user $user --db-repl-user $user \
    --mycnf-server-id 1 --mycnf-socket-file "$SHADOW_STORE_ROOT_SOCKET" \
    --tablet-types-to-wait PRIMARY --tablet-refresh-interval 10s \
    --queryserver-config-schema-reload-time 60s \
    --queryserver-config-transaction-cap 300 --queryserver-config-txpool-timeout 10s \
    --queryserver-config-pool-size 100 --queryserver-config-stream-pool-size 200 \
    --queryserver-config-query-timeout 60s --queryserver-config-transaction-timeout 60s \
    --dbddl-plugin vttest --vschema-ddl-authorized-users '%'
}

vtcombo_topology() {
  local rest='replica_count:1 rdonly_count:-1'
  echo "keyspaces:{name:\"lookup\" shards:{name:\"0\"} $rest}"
  echo "keyspaces:{name:\"scratch\" shards:{name:\"0\"} $rest}"
  echo "keyspaces:{name:\"app\" shards:{name:\"-80\"} shards:{name:\"80-\"} $rest}"
}

# The schema tracker sees a new table about a second late, so the first answers may be
# errors: all is asked again until it succeeds, which the SQL allows.
await_vtcombo() {
  await shadow "$LAB_WAIT_S" shadow_answers "$SHADOW_PORT"
  await shadow "$LAB_WAIT_S" apply_vitess_sql lookup
  await shadow "$LAB_WAIT_S" apply_vitess_sql app
  await shadow "$LAB_WAIT_S" shadow_has_shop "$SHADOW_PORT"
  step "the shadow is ready: $(user_sql app "$SHADOW_PORT" -Nse 'select @@version_comment, @@version' | tr '\t' ' ')"
}

apply_vitess_sql() { user_sql app "$SHADOW_PORT" "$1" <"$LAB/schema/vitess-$1.sql"; }

# shadow_answers PORT: the app may log in and read in each keyspace.
shadow_answers() {
  user_sql app "$1" -e 'use lookup; select 1; use scratch; select 1; use app; select 1'
}

# shadow_has_shop PORT: the demo's tables can be read.
shadow_has_shop() {
  user_sql app "$1" -e 'use lookup; select * from events_seq; use app;
    select * from customers limit 1; select * from products limit 1; select * from orders limit 1;
    select * from order_lines limit 1; select * from payments limit 1; select * from events limit 1'
}
