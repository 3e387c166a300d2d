#!/bin/sh
# chkconfig: on 90 90
# description: vDVS, volumes for containers in virtual machines
#
# Starts, stops and watches the agent. hostd is not asked for anything: the agent waits for it by itself.
#
#   start | stop | restart | status | kill
#
# ESXi says a second word when a package comes or goes: `start install`, `stop remove`, `start upgrade`. With one, `start`
# says what is wrong and succeeds: a failure would make ESXi ask for a reboot. A word nobody knows is passed over.
#
# Exit codes: 0 done, or as asked already; 1 not done; 3 `status` of an agent that does not run.

PATH=/bin:/sbin:/usr/bin:/usr/sbin
export PATH
. /opt/vdvs/bin/settings.sh

TAG=vdvsd
RUNNER=/opt/vdvs/bin/run-vdvsd
CLI=/opt/vdvs/bin/vdvs
WATCHDOG=/sbin/watchdog.sh
# Ends of the agent within a minute of its start, after which the watchdog gives up: it ends by itself only when it
# cannot use its settings. And ends in all.
QUICK_FAILURES=5
FAILURES=1000000

# A group of its own, so that the agent takes memory from nobody and nobody from it. Twice what it may need.
SCHED="localcli --plugin-dir=/usr/lib/vmware/esxcli/int sched group"
PARENT=host/vim/vimuser
GROUP=$PARENT/$TAG
MEMORY_MB=96

# Seconds. The agent needs at most 8 to finish or write down what it does.
START_WAIT=10
STOP_WAIT=20
KILL_WAIT=5
ASK_WAIT=10

# To whoever looks, and to the host's log.
say() {
    echo "vdvs: $*"
    logger -t vdvs "$*" 2>/dev/null
    return 0
}

# Sets PID when the agent runs.
running() {
    PID=$(cat "$PID_FILE" 2>/dev/null)
    case "$PID" in
    '' | *[!0-9]*) return 1 ;;
    esac
    kill -0 "$PID" 2>/dev/null
}

# Waits until the agent runs: wait_until running SECONDS; or until it does not: wait_until gone SECONDS.
gone() {
    ! running
}
wait_until() {
    LEFT=$2
    until "$1"; do
        [ "$LEFT" -gt 0 ] || return 1
        LEFT=$((LEFT - 1))
        sleep 1
    done
}

make_group() {
    $SCHED list --group-path="$GROUP" >/dev/null 2>&1 ||
        $SCHED add --group-name="$TAG" --parent-path="$PARENT" >/dev/null 2>&1 ||
        return 1
    $SCHED setmemconfig -g "$GROUP" --min=0 --max="$MEMORY_MB" --minlimit=-1 -u mb >/dev/null 2>&1 ||
        say "the agent's memory is not limited: the host did not take the limit"
    return 0
}

start() {
    if running; then
        say "already running, pid $PID"
        return 0
    fi
    umask 077
    mkdir -p "$RUN" || return 1
    # One that waits between two tries must not become a second one.
    "$WATCHDOG" -n -k "$TAG" >/dev/null 2>&1
    rm -f "$PID_FILE" "$LAST_WORDS" "$LAST_WORDS.1"
    if make_group && setsid "++memreliable,group=$GROUP" \
        "$WATCHDOG" -d -s "$TAG" -q "$QUICK_FAILURES" -t "$FAILURES" "$RUNNER" >/dev/null 2>&1; then
        :
    elif setsid "$WATCHDOG" -d -s "$TAG" -q "$QUICK_FAILURES" -t "$FAILURES" "$RUNNER" >/dev/null 2>&1; then
        say "the agent runs without a resource group of its own: the host made none"
    else
        say "cannot start $WATCHDOG; nothing runs"
        return 1
    fi
    if wait_until running "$START_WAIT"; then
        # One that cannot use its settings ends at once, and is another one a moment later.
        FIRST=$PID
        sleep 1
        if running && [ "$PID" = "$FIRST" ]; then
            say "started, pid $PID; its log: $(state_folder)/vdvsd.log"
            return 0
        fi
    fi
    say "started, but does not stay: $(last_words)"
    return 1
}

# The one that runs now may not have said any yet.
last_words() {
    WORDS=$(tail -n 1 "$LAST_WORDS" 2>/dev/null)
    [ -n "$WORDS" ] || WORDS=$(tail -n 1 "$LAST_WORDS.1" 2>/dev/null)
    echo "${WORDS:-it said nothing}"
}

# stop SIGNAL
stop() {
    WATCHED=$("$WATCHDOG" -r "$TAG" 2>/dev/null)
    # First, or it would be started again.
    "$WATCHDOG" -n -k "$TAG" >/dev/null 2>&1
    # It may have been started at this very moment, and not have written down its number yet.
    running || [ -z "$WATCHED" ] || wait_until running 2
    if running; then
        echo "vdvs: stopping pid $PID; what is under way is finished or written down"
        kill -s "$1" "$PID" 2>/dev/null
        if ! wait_until gone "$STOP_WAIT"; then
            say "it did not end within $STOP_WAIT s and is killed; its next start goes on where it was"
            running && kill -s KILL "$PID" 2>/dev/null
            if ! wait_until gone "$KILL_WAIT"; then
                say "pid $PID cannot be killed; it waits for a device or datastore. Restart the host to be rid of it"
                return 1
            fi
        fi
        say "stopped"
    else
        say "not running"
    fi
    rm -f "$PID_FILE" "$SOCKET"
    $SCHED delete --group-path="$GROUP" >/dev/null 2>&1
    return 0
}

status() {
    if running; then
        echo "vdvs: running, pid $PID"
        return 0
    fi
    echo "vdvs: not running"
    return 3
}

# What is said before the package goes. The agent is asked while it can still answer.
farewell() {
    STATE=$(state_folder)
    if running; then
        ATTACHED=$("$CLI" --timeout "$ASK_WAIT" --output csv volume ls --filter state=attached </dev/null 2>&1)
        if [ $? -eq 0 ]; then
            say "volumes attached to VMs now. They stay attached, and containers go on; without an agent nothing is attached or detached:"
            echo "$ATTACHED" | while IFS= read -r LINE; do say "  $LINE"; done
        else
            say "which volumes are attached is not known; the agent said: $ATTACHED"
        fi
    else
        say "which volumes are attached is not known: the agent does not run"
    fi
    say "every volume stays on its datastore, in the folder dockvols, with its record and the configuration"
    say "also stays: $STATE (audit and log). Remove it by hand when nobody needs it"
    say "acceptance level of this host: it was not changed by this package; see docs/install-esxi.md to set it back"
}

SECOND=
ACTION=
for WORD in "$@"; do
    case "$WORD" in
    start | stop | restart | status | kill) [ -n "$ACTION" ] || ACTION=$WORD ;;
    install | remove | upgrade) SECOND=$WORD ;;
    *) echo "vdvs: '$WORD' means nothing here" ;;
    esac
done
# Some releases say only what happens to the package.
[ -n "$ACTION" ] || { [ "$SECOND" = remove ] && ACTION=stop; }

cd / || exit 1
case "$ACTION" in
start)
    start
    CODE=$?
    # What is wrong was said. A host that has to be restarted because of it would be worse off.
    [ -z "$SECOND" ] || CODE=0
    exit $CODE
    ;;
stop)
    [ "$SECOND" != remove ] || farewell
    stop TERM
    exit $?
    ;;
kill)
    stop KILL
    exit $?
    ;;
restart)
    stop TERM && start
    exit $?
    ;;
status)
    status
    exit $?
    ;;
*)
    echo "vdvs: use start, stop, restart, status or kill"
    exit 0
    ;;
esac
