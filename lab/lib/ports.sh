# shellcheck shell=bash
# Ports on 127.0.0.1. Another lab may be choosing at the same moment, and a server takes
# its port seconds later: a chosen port is reserved for as long as this process lives.

# choose_port VARIABLE DEFAULT: keeps the port that the environment names; else sets
# VARIABLE to the default, or to the next port that is free.
choose_port() {
  local variable=$1 default=$2 port=${!1:-}
  lock 9 "$LAB_HOME/locks/ports" ""
  if [ -n "$port" ]; then
    [[ $port =~ ^[0-9]+$ && $port -gt 0 && $port -lt 65536 ]] ||
      die "$variable=$port is no port." "Set it to a number from 1 to 65535, or unset it and take what is free."
    reserve "$port" ||
      die "the port $port, which $variable in the environment asks for, is taken." "Choose another, or unset $variable and take what is free."
  else
    for ((port = default; ; port++)); do
      [ $port -lt $((default + 500)) ] ||
        die "no port from $default to $port is free." "Set $variable to one that is."
      if reserve "$port"; then break; fi
    done
    printf -v "$variable" %s "$port"
  fi
  exec 9>&-
}

# reserve PORT: fails when it is taken.
reserve() {
  local pid started file=$LAB_HOME/ports/$1
  if [ -e "$file" ] && read -r pid started <"$file" && alive "$pid" "$started"; then return 1; fi
  is_free "$1" || return 1
  printf '%s %s\n' "$$" "$(start_time $$)" >"$file"
}

# is_free PORT: nobody listens on it, at whatever address.
is_free() {
  local hex
  printf -v hex ':%04X' "$1"
  # Read to the end: a reader that stops at its hit would, where connections are many, fail the pipe.
  { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true; } |
    awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { taken = 1 } END { exit taken }'
}
