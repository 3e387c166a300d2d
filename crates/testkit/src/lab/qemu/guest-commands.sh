# Runs what comes on the second serial line, one command per line, in its own process each:
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

serve() {
    stty -F /dev/ttyS1 raw -echo
    exec 3<>/dev/ttyS1
    echo "lab: ready" >/dev/console
    while read -r id script <&3; do
        (
            exec 3<&-
            echo "$script" | base64 -d >"/run/in.$id"
            sh "/run/in.$id" >"/run/out.$id" 2>&1 </dev/null
            code=$?
            text=$(head -c 200000 "/run/out.$id" | base64 -w0)
            # One answer at a time.
            until mkdir /run/turn 2>/dev/null; do sleep 0.02; done
            echo "$id $code $text" >/dev/ttyS1
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
