#!/usr/bin/env bash
# Makes the machine ready and serves the panel in this terminal; arguments go to "openidcs serve". Ctrl-C stops the
# panel, VMs keep running. PANEL_HOST=0.0.0.0 opens it to the network, PANEL_PORT changes the port.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
. "$ROOT/scripts/lib/libvirt.sh"

"$ROOT/scripts/bootstrap.sh" run
cd "$ROOT"
export PANEL_DATA_FOLDER=${PANEL_DATA_FOLDER:-$ROOT/data} PANEL_LOCAL_HOST=${PANEL_LOCAL_HOST:-1}
(umask 077 && mkdir -p "$PANEL_DATA_FOLDER") # keys and database: nobody else's
export PANEL_IMAGES_PATH=$IMAGES_PATH PANEL_DISKS_PATH=$DISKS_PATH
exec_with_libvirt "$VENV/bin/openidcs" serve "$@"
