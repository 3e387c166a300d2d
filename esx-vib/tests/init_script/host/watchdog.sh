#!/bin/sh
# Stands in for ESXi's /sbin/watchdog.sh, as far as its users show it: runs a command again when it ends, gives up after
# too many quick ends, is asked for (-r) and ended (-k) by its tag. Ending it leaves the command alone.
while getopts dnk:r:s:q:t: OPTION; do
    case "$OPTION" in
    k | r | s) ACTION=$OPTION TAG=$OPTARG ;;
    q) QUICK=$OPTARG ;;
    esac
done
shift $((OPTIND - 1))
echo "watchdog -$ACTION $TAG" >>/host/calls
[ ! -e /host/no-watchdog ] || exit 1
NUMBER=/var/run/vmware/watchdog-$TAG.PID
PID=$(cat "$NUMBER" 2>/dev/null)
case "$ACTION" in
k)
    [ -n "$PID" ] || {
        echo "watchdog-$TAG: PID file $NUMBER does not exist"
        exit 1
    }
    rm -f "$NUMBER"
    kill "$PID" 2>/dev/null
    while kill -0 "$PID" 2>/dev/null; do usleep 5000; done
    exit 0
    ;;
r)
    [ -n "$PID" ] && kill -0 "$PID" 2>/dev/null && echo "$PID"
    exit $?
    ;;
esac
[ -z "$PID" ] || ! kill -0 "$PID" 2>/dev/null || {
    echo "watchdog-$TAG: runs already" >&2
    exit 1
}
(
    trap 'exit 0' TERM
    while [ "$QUICK" -gt 0 ]; do
        "$@" &
        wait $!
        QUICK=$((QUICK - 1))
        usleep 20000
    done
    rm -f "$NUMBER"
) </dev/null >/dev/null 2>&1 &
echo $! >"$NUMBER"
