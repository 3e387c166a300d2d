# Commands of an ESXi host that busybox here has in another form, or has with real seconds. The init script is read
# after this, by the same shell.

# Fifty times as fast at first, then ever slower: a wait that is about to be given up is a real one on a busy machine.
SLEPT=0
sleep() {
    SLEPT=$((SLEPT + 1))
    command usleep $((SLEPT * $1 * 20000))
}

logger() {
    echo "$2: $3" >>/var/log/syslog.log
}

# ESXi's takes a scheduling group before the command.
setsid() {
    case "$1" in
    ++*)
        [ ! -e /host/no-groups ] || return 1
        echo "setsid $1" >>/host/calls
        shift
        ;;
    esac
    command setsid "$@"
}
