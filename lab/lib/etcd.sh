# shellcheck shell=bash
# etcd, through which several proxies flip together: one server, without TLS and without accounts. The machine's own
# where there is one, else Debian's package in a directory of its own: installed, it would run as a service too.

install_etcd() {
  ETCD_RUN=()
  if ETCD=$(machine_etcd); then
    step "using the machine's own $ETCD"
    return
  fi
  is_debian || die "there is no etcd on PATH, and this is no Debian, from where the lab could take one." \
    "Install the system's package of it (etcd or etcd-server)."
  cached etcd unpack_etcd
  run_in "$SERVED/programs/etcd"
  ETCD_RUN=("${RUN_IN[@]}")
  ETCD=$SERVED/programs/etcd/usr/bin/etcd
}

machine_etcd() { PATH=$PATH:/usr/sbin command -v etcd; }

unpack_etcd() { unpack_debian bookworm "$1" etcd-server; }

start_etcd() {
  local client=http://127.0.0.1:$ETCD_PORT peer=http://127.0.0.1:$ETCD_PEER_PORT
  local -a bare=(env -i "PATH=$PATH" "HOME=$WORK/etcd")
  # Of the processors that it knows it refuses all but AMD's, unless told that one means it.
  [ "$(uname -m)" != aarch64 ] || bare+=(ETCD_UNSUPPORTED_ARCH=arm64)
  step "starting etcd on port $ETCD_PORT"
  fresh_directory "$WORK/etcd"
  # It takes every ETCD_… of the environment for a flag of its own, and the lab's are none: hence env -i.
  spawn etcd "${bare[@]}" "${ETCD_RUN[@]}" "$ETCD" --name lab --data-dir "$WORK/etcd/data" \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "lab=$peer" \
    --logger zap --log-level warn
}

await_etcd() {
  await etcd "$LAB_WAIT_S" etcd_answers "$ETCD_PORT"
  step "etcd is ready"
}

# etcd_answers PORT: it has a leader, and takes writes.
etcd_answers() {
  # shellcheck disable=SC2016 # the inner shell's
  timeout 10 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET /health HTTP/1.0\r\n\r\n" >&3 && grep -q "\"health\":\"true\"" <&3' \
    "$1" 8>&- 9>&-
}
