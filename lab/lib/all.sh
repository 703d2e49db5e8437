# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR
# The lab's parts, in the order in which a newcomer should read them.

set -euo pipefail

. "$LAB/lib/log.sh"
. "$LAB/lib/home.sh"
. "$LAB/lib/ports.sh"
. "$LAB/lib/process.sh"
. "$LAB/lib/packages.sh"
. "$LAB/lib/client.sh"
. "$LAB/lib/mysql56.sh"
. "$LAB/lib/mysql97.sh"
. "$LAB/lib/mariadb.sh"
. "$LAB/lib/legacy.sh"
. "$LAB/lib/store.sh"
. "$LAB/lib/vtcombo.sh"
. "$LAB/lib/etcd.sh"
. "$LAB/lib/prometheus.sh"
. "$LAB/lib/env.sh"
. "$LAB/lib/end.sh"
