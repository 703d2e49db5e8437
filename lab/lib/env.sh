# shellcheck shell=bash
# $LAB_RUN/env: all that a caller needs to know, as KEY=value. It appears whole, at the
# end of `up`, and goes with `down`.

write_env() {
  {
    printf 'LAB_PARTS=%s\n' "$LAB_PARTS"
    if has_part legacy; then
      printf '%s\n' "LAB_LEGACY=$LAB_LEGACY" \
        LEGACY_HOST=127.0.0.1 "LEGACY_PORT=$LEGACY_PORT" LEGACY_USER=app LEGACY_PASSWORD=app \
        LEGACY_PROXY_USER=understudy LEGACY_PROXY_PASSWORD=understudy \
        "LEGACY_PID=$(pid_of legacy)" "LEGACY_ROOT_SOCKET=$LEGACY_ROOT_SOCKET"
      [ ! -e "$LAB_RUN/legacy-ca.pem" ] || printf 'LEGACY_TLS_CA=%s\n' "$LAB_RUN/legacy-ca.pem"
    fi
    if has_part shadow; then
      printf '%s\n' "SHADOW_HOST=127.0.0.1" "SHADOW_PORT=$SHADOW_PORT" SHADOW_USER=app SHADOW_PASSWORD=app \
        SHADOW_PROXY_USER=understudy SHADOW_PROXY_PASSWORD=understudy "SHADOW_PID=$(pid_of shadow)" \
        "SHADOW_WEB_PORT=$SHADOW_WEB_PORT" "SHADOW_GRPC_PORT=$SHADOW_GRPC_PORT" \
        SHADOW_STORE_HOST=127.0.0.1 "SHADOW_STORE_PORT=$SHADOW_STORE_PORT" \
        SHADOW_STORE_USER=understudy SHADOW_STORE_PASSWORD=understudy \
        "SHADOW_STORE_PID=$(pid_of store)" "SHADOW_STORE_ROOT_SOCKET=$SHADOW_STORE_ROOT_SOCKET"
    fi
    if has_part etcd; then
      printf '%s\n' "ETCD_URL=http://127.0.0.1:$ETCD_PORT" "ETCD_PORT=$ETCD_PORT" "ETCD_PEER_PORT=$ETCD_PEER_PORT" \
        "ETCD_PID=$(pid_of etcd)"
    fi
  } >"$LAB_RUN/env.new"
  mv "$LAB_RUN/env.new" "$LAB_RUN/env"
}

# from_env KEY: its value in the running lab, or nothing.
from_env() { sed -n "s/^$1=//p" "$LAB_RUN/env" 2>/dev/null; }

has_part() { [[ ,$LAB_PARTS, == *",$1,"* ]]; }

# write_new_pid NAME: after a restart.
write_new_pid() {
  local key=${1^^}_PID
  [ "$1" != store ] || key=SHADOW_STORE_PID
  sed "s/^$key=.*/$key=$(pid_of "$1")/" "$LAB_RUN/env" >"$LAB_RUN/env.new"
  mv "$LAB_RUN/env.new" "$LAB_RUN/env"
}
