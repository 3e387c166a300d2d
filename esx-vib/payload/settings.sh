#!/bin/sh
# Where things are. Read by the init script and by run-vdvsd; does nothing by itself.

# What an administrator may change. Kept over reboots: ESXi saves files with the sticky bit.
CONFIG=/opt/vdvs/etc/vdvsd.toml
# In memory: the process's number, the administrator's socket, what the agent said when it could not start.
RUN=/var/run/vdvsd
PID_FILE=$RUN/pid
SOCKET=$RUN/admin.sock
LAST_WORDS=$RUN/last-words

# The folder of the agent's audit and log. Volumes, records and configuration are on the datastores, never here.
state_folder() {
    # The settings file's line counts. In single or double quotes, without escapes.
    FOLDER=$(sed -n "s/^state *= *[\"']\([^\"']*\)[\"'].*\$/\1/p" "$CONFIG" 2>/dev/null | head -n 1)
    if [ -n "$FOLDER" ]; then
        echo "$FOLDER"
        return
    fi
    # From 7.0 on there is a partition for such things; before it, and where it is a link to it, scratch.
    for BASE in /var/lib/vmware/osdata /scratch; do
        REAL=$(readlink -f "$BASE" 2>/dev/null)
        case "$REAL" in
        '' | /tmp | /tmp/* | /var/tmp | /var/tmp/*) continue ;;
        esac
        if [ -d "$REAL" ] && [ -w "$REAL" ]; then
            echo "$BASE/vdvs"
            return
        fi
    done
    # Memory. Nothing is lost that counts, but the audit begins anew with each boot.
    echo "$RUN/state"
}
