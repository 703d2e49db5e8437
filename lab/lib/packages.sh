# shellcheck shell=bash
# Debian packages: into the system, or into a directory of their own.

# as_root COMMAND…
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# apt_install PACKAGE…: into the system; needs root or sudo.
apt_install() {
  local log=$LAB_HOME/log/apt-get.log
  command -v apt-get >/dev/null || die "apt-get is not here, so $* cannot be installed." \
    "This is no Debian. Install $* with the system's own package manager."
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    die "$* are missing and need root to install." "Run: sudo apt-get install $*"
  fi
  lock 9 "$LAB_HOME/locks/apt-get" "installs packages"
  step "apt-get install $*"
  : >"$log"
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=600)
  if ! logged "$log" as_root "${get[@]}" install "$@"; then
    step "the package lists may be old: apt-get update, then once more"
    logged "$log" as_root "${get[@]}" update || true
    logged "$log" as_root "${get[@]}" install "$@" ||
      { show_tail "$log"; die "apt-get could not install $*." "The reason is above and in $log; mend the machine's apt, then try again."; }
  fi
  exec 9>&-
}

# debian_mirror: the address of Debian's own packages, from the machine's apt sources.
debian_mirror() {
  # shellcheck disable=SC2016 # apt fills these in
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk '$3 == "main" && $2 !~ /security|updates|backports|proposed/ { print $1; exit }'
}

is_debian() { [ -r /etc/os-release ] && grep -qx 'ID=debian' /etc/os-release; }

# unpack_debian SUITE DIR PACKAGE…: the packages and all they need, down to libc, below
# DIR. The base system is neither asked nor touched: apt is told that nothing is
# installed, and keeps its lists and archives in a directory of its own.
unpack_debian() {
  local suite=$1 dir=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  shift 2
  local apt=$dir.apt package
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "the machine's apt sources name no Debian mirror." \
    "Put a 'deb … main' line for Debian into /etc/apt/sources.list.d."
  rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  printf 'deb %s%s %s main\n' "$([ ! -r $keyring ] || echo "[signed-by=$keyring] ")" "$mirror" "$suite" >"$apt/sources.list"
  cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$apt/lists/";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache/";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
  local get=(env "APT_CONFIG=$apt/apt.conf" apt-get -y -q -o Debug::NoLocking=1)
  step "fetching $* from Debian $suite"
  { logged "$BUILD_LOG" "${get[@]}" update && logged "$BUILD_LOG" "${get[@]}" --download-only install "$@"; } ||
    { show_tail "$BUILD_LOG"; die "apt-get could not fetch $* from Debian's suite $suite." "The reason is above and in $BUILD_LOG; is the mirror reachable, and does it carry $suite?"; }
  for package in "$apt"/cache/archives/*.deb; do
    case ${package##*/} in perl* | libperl*) continue ;; esac
    logged "$BUILD_LOG" dpkg-deb -x "$package" "$dir" ||
      { show_tail "$BUILD_LOG"; die "dpkg-deb could not unpack ${package##*/}." "Is the disk full?"; }
  done
  rm -rf "$apt"
}

# run_in DIR: sets RUN_IN to the command that runs a program of DIR with DIR's own
# loader and libraries.
run_in() {
  local dir=$1 loader library_path
  loader=$(compgen -G "$dir/lib64/ld-linux-*.so.*" || compgen -G "$dir/usr/lib64/ld-linux-*.so.*" ||
    compgen -G "$dir/lib/ld-linux-*.so.*" || compgen -G "$dir/usr/lib/ld-linux-*.so.*") ||
    die "there is no loader (ld-linux) below $dir." "The unpacked packages are incomplete: delete $dir and try again."
  library_path=$(printf '%s:' "$dir"/lib/*-linux-gnu "$dir"/usr/lib/*-linux-gnu "$dir/usr/lib/mysql/private")
  # shellcheck disable=SC2034 # for the callers
  RUN_IN=("${loader%%$'\n'*}" --library-path "${library_path%:}")
}
