# shellcheck shell=bash
# The drivers of tests/clients: installed once, their programs built and run.

here=$PWD/tests/clients
cache=${UNDERSTUDY_LAB_HOME:-$HOME/.cache/understudy-lab}/clients
mkdir -p "$cache"

say() { printf 'clients: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

# once KEY COMMAND…: runs COMMAND unless a former run with the same KEY succeeded.
once() {
  local mark=$cache/$1.done
  shift
  [ -e "$mark" ] && return
  "$@" >"$cache/install.log" 2>&1 || { tail -n 20 "$cache/install.log" >&2; die "could not install: $*"; }
  touch "$mark"
}

python() { # PROGRAM NAME: the driver's virtual environment holds both drivers
  local key
  key=$(sha256sum "$here/python/requirements.txt" | cut -c1-12)
  lab/install python3-venv python3-dev default-libmysqlclient-dev pkg-config gcc
  once "python-$key" sh -c "python3 -m venv --clear '$cache/python' && '$cache/python/bin/pip' install --disable-pip-version-check -q -r '$here/python/requirements.txt'"
  "$cache/python/bin/python" "$here/python/$1.py" "$2"
}
go_client() { # PROGRAM
  local from=.
  [ "$1" = client ] || from=./$1
  (cd "$here/go" && GOFLAGS=-mod=readonly go build -o "$cache/go-$1" "$from") && "$cache/go-$1"
}
mysql2() {
  local key
  key=$(sha256sum "$here/node/package.json" | cut -c1-12)
  once "node-$key" sh -c "mkdir -p '$cache/node' && cp '$here/node/package.json' '$cache/node/' && cd '$cache/node' && npm install --no-audit --no-fund --no-package-lock"
  cp "$here/node/client.mjs" "$cache/node/" && node "$cache/node/client.mjs"
}
connector_j() { # CLASS
  if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    lab/install default-jdk-headless maven
  fi
  mkdir -p "$cache/java" && cp -r "$here/java/." "$cache/java/"
  if [ -n "${CLIENT_CA:-}" ]; then
    CLIENT_TRUSTSTORE=$cache/trust-$$.p12
    keytool -importcert -noprompt -alias lab -file "$CLIENT_CA" -storetype PKCS12 -keystore "$CLIENT_TRUSTSTORE" -storepass lab-only 2>/dev/null
    export CLIENT_TRUSTSTORE
  fi
  local failed=0
  (cd "$cache/java" && mvn -q -B compile exec:java "-Dexec.mainClass=$1" -Dexec.cleanupDaemonThreads=false) || failed=$?
  rm -f "${CLIENT_TRUSTSTORE:-}"
  return $failed
}
