# Runs what comes through the serial port "lab", one command per line, each in a process of its own:
#
#   in    ID base64(script)
#   out   ID EXIT-CODE base64(output)
#
# This shell stays pid 1 and reaps; the loop is its child. With the argument "engine" the file systems a container
# engine needs are mounted first.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin
if [ "$1" = engine ]; then
    mkdir -p /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t tmpfs tmp /tmp
    mkdir -p /var/lib/docker /var/lib/vdvs
    mount -t tmpfs docker /var/lib/docker
fi

# The port's node, by the name QEMU gave it.
port() {
    for one in /sys/class/virtio-ports/*; do
        [ "$(cat "$one/name")" = lab ] && echo "/dev/${one##*/}" && return
    done
}

serve() {
    until [ -c "$(port)" ]; do sleep 0.1; done
    # One opener at a time: answers go through the same descriptor.
    exec 3<>"$(port)"
    echo "lab: ready" >/dev/console
    while :; do
        # Nobody is at the other end, or the line is empty.
        if ! read -r id script <&3 || [ -z "$script" ]; then
            sleep 0.02
            continue
        fi
        (
            echo "$script" | base64 -d >"/run/in.$id"
            sh "/run/in.$id" >"/run/out.$id" 2>&1 </dev/null 3<&-
            code=$?
            text=$(head -c 200000 "/run/out.$id" | base64 -w0)
            # One answer at a time.
            until mkdir /run/turn 2>/dev/null; do sleep 0.02; done
            echo "$id $code $text" >&3
            rmdir /run/turn
            rm -f "/run/in.$id" "/run/out.$id"
        ) &
    done
}

serve &
while :; do
    wait
    sleep 1
done
