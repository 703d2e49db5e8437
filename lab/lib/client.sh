# shellcheck shell=bash
# The MariaDB client: the one client that logs in to every server of the lab.

set_client() {
  local dir=$LAB_HOME/programs/mariadb
  if command -v mariadb >/dev/null; then
    CLIENT=(mariadb)
  elif [[ $(mysql --version 2>/dev/null) == *MariaDB* ]]; then
    CLIENT=(mysql)
  elif is_debian; then
    cached mariadb unpack_mariadb
    run_in "$dir"
    CLIENT=("${RUN_IN[@]}" "$dir/usr/bin/mariadb")
    CLIENT_PLUGINS=("--plugin-dir=$(echo "$dir"/usr/lib/*-linux-gnu/libmariadb3/plugin)")
  else
    die "MariaDB's client is not here." "Install the system's package of it (mariadb-client or default-mysql-client)."
  fi
  CLIENT+=(--no-defaults "${CLIENT_PLUGINS[@]}" --default-character-set=utf8mb4 --connect-timeout=20)
}
CLIENT_PLUGINS=()

# root_sql SOCKET ARGUMENT…
root_sql() {
  local socket=$1
  shift
  timeout 120 "${CLIENT[@]}" --skip-ssl --user=root "--socket=$socket" "$@" 8>&- 9>&-
}

# user_sql USER PORT ARGUMENT…: logs in over TCP; the lab's passwords are the names.
user_sql() {
  local user=$1 port=$2
  shift 2
  timeout 120 "${CLIENT[@]}" --skip-ssl --host=127.0.0.1 "--port=$port" "--user=$user" "--password=$user" "$@" 8>&- 9>&-
}
