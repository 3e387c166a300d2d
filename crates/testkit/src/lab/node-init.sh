#!/bin/bash
# Pid 1 of a lab node. Runs in fresh mount, pid, uts, ipc and net namespaces and turns them into a small machine:
# a root of its own in which nothing of the host's /dev, /run or other mounts is visible (so that a node never
# keeps somebody else's file system busy), then the services in their order, restarted when they die.
#
# Files below /run/lab are the node's console; the host reads and writes them:
#   ready      the machine is set up, disks may be plugged in        (written here)
#   go         services may start                                    (written by the host)
#   hold.NAME  service NAME is not to be started again               (written by the host)
#   NAME.pid   pid of a running service, in this pid namespace       (written here)
#   stopping   an orderly shutdown has begun                         (written here)
# TERM shuts down in order: engine, plugin, rest. KILL is the power cord.
set -eu

node=$1 name=$2 cgroup=$3 vsock=$4 bin=$5 stop_grace=$6

hostname "$name"
mount --make-rprivate /

# --- a root of our own -----------------------------------------------------------------------------------------
root=$node/root
mkdir -p "$root" "$node"/{etc,etc.work,etc-docker,var-lib-docker,var-lib-vdvs,run,logs,notes}
# Not recursive: the host's other mounts stay out, save those that hold the system itself.
mount --bind / "$root"
for dir in /usr /bin /sbin /lib /lib64; do
    if mountpoint -q "$dir"; then mount --bind "$dir" "$root$dir"; fi
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t overlay -o "lowerdir=/etc,upperdir=$node/etc,workdir=$node/etc.work" overlay "$root/etc"
echo "$name" > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" > "$root/etc/hosts"
# A resolver that refuses at once: looking for a missing image must not cost a DNS time-out.
rm -f "$root/etc/resolv.conf"
echo 'nameserver 127.0.0.1' > "$root/etc/resolv.conf"
mkdir -p "$root/etc/docker"
mount --bind "$node/etc-docker" "$root/etc/docker"

for dir in tmp var/tmp var/lib opt mnt; do mount -t tmpfs -o mode=755 tmpfs "$root/$dir"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
mkdir -p "$root"/var/lib/{docker,vdvs,notes} "$root/opt/vdvs" "$root/mnt/old"
mount --bind "$node/var-lib-docker" "$root/var/lib/docker"
mount --bind "$node/var-lib-vdvs" "$root/var/lib/vdvs"
# What programs in the node were promised: it outlives every boot, and is readable from outside.
mount --bind "$node/notes" "$root/var/lib/notes"
mount --bind "$bin" "$root/opt/vdvs"
mount -o remount,bind,ro "$root/opt/vdvs"
mount --bind "$node/run" "$root/run"
mkdir -p "$root/run/docker/plugins" "$root/run/vdvs-vsock" "$root/run/lock"
mount --bind "$vsock" "$root/run/vdvs-vsock"

# --- a private /dev: a disk appears here only when it is plugged into this machine -----------------------------
dev=$root/dev
mount -t tmpfs -o mode=755,dev tmpfs "$dev"
mkdir -p "$dev"/{pts,shm,mqueue,net,disk/by-id}
for spec in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "kmsg 1 11" "fuse 10 229"; do
    read -r file major minor <<< "$spec"
    mknod -m 666 "$dev/$file" c "$major" "$minor"
done
mknod -m 666 "$dev/net/tun" c 10 200
ln -s /proc/self/fd "$dev/fd"
ln -s fd/0 "$dev/stdin"
ln -s fd/1 "$dev/stdout"
ln -s fd/2 "$dev/stderr"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$dev/pts"
ln -s pts/ptmx "$dev/ptmx"
mount -t tmpfs -o mode=1777 shm "$dev/shm"
mount -t mqueue mqueue "$dev/mqueue" 2> /dev/null || true

# --- cgroups: the hierarchies of the host, mounted again (the fresh sysfs hides them) --------------------------
cg=$root/sys/fs/cgroup
if grep -q ' - cgroup ' /proc/1/mountinfo || grep -q '^[1-9][0-9]*:' /proc/1/cgroup; then
    mount -t tmpfs -o mode=755 cgroup "$cg"
    # /proc/self/cgroup has one line per hierarchy: number:controllers:path. Number 0 is the second version.
    while IFS=: read -r number controllers _; do
        [ "$number" != 0 ] || continue
        mkdir -p "$cg/${controllers#name=}"
        case $controllers in
            name=*) options=none,$controllers ;;
            *) options=$controllers ;;
        esac
        mount -t cgroup -o "$options" cgroup "$cg/${controllers#name=}"
    done < /proc/self/cgroup
else
    mount -t cgroup2 cgroup2 "$cg"
fi

# --- leave the host's root -------------------------------------------------------------------------------------
mount -o remount,bind,ro "$root"
cd "$root"
pivot_root . mnt/old
cd /
umount -l /mnt/old
rmdir /mnt/old
# Volumes are mounted below; the engine and the containers it makes must see them appear and go.
mkdir -p /mnt/vdvs
mount --make-shared /mnt
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8
mkdir -p /run/lab

# A pause that forks nothing: a read from a pipe nobody writes to.
exec {never}<> <(:)
pause() { read -r -t "$1" -u "$never" _ || true; }

stop=
trap 'stop=1' TERM
trap '' HUP INT

: > /run/lab/ready
until [ -e /run/lab/go ] || [ "$stop" ]; do pause 0.02; done

# --- services --------------------------------------------------------------------------------------------------
# Runs a command over and over until it is held or the machine shuts down.
supervise() {
    local service=$1
    shift
    trap - TERM
    while [ ! -e /run/lab/stopping ]; do
        if [ -e "/run/lab/hold.$service" ]; then pause 0.1; continue; fi
        echo "--- $service starts" >> "/run/$service.log"
        "$@" >> "/run/$service.log" 2>&1 &
        echo $! > "/run/lab/$service.pid"
        wait $! || echo "--- $service ended with status $?" >> "/run/$service.log"
        rm -f "/run/lab/$service.pid"
        # An engine that finds the containerd of a killed one still dying waits 15 s for it to answer.
        if [ "$service" = dockerd ]; then pause 1; else pause 0.2; fi
    done
}

if [ ! "$stop" ]; then
    supervisors=()
    docker=unix:/run/docker.sock
    if [ -e /etc/no-engine ]; then docker=none; fi
    # Not where Docker itself is to run the plugin.
    if [ -x /opt/vdvs/vdvs-plugin ] && [ ! -e /etc/no-vdvs-plugin-service ]; then
        supervise plugin /opt/vdvs/vdvs-plugin run --agent unix:/run/vdvs-vsock/1019 --driver vsphere \
            --state /var/lib/vdvs --mount-root /mnt/vdvs --docker "$docker" &
        supervisors+=($!)
        # The plugin listens before the engine starts: an engine that finds none waits 15 s per look-up.
        for _ in {1..100}; do
            [ ! -S /run/docker/plugins/vsphere.sock ] || break
            pause 0.1
        done
    fi
    if [ "$docker" != none ]; then
        supervise dockerd dockerd --cgroup-parent="/$cgroup" -H unix:///run/docker.sock &
        supervisors+=($!)
    fi
fi

# Bash reaps what is orphaned here by itself, whenever one of its own waits returns.
while [ ! "$stop" ]; do pause 0.5; done

# --- orderly shutdown ------------------------------------------------------------------------------------------
: > /run/lab/stopping
for service in dockerd plugin; do
    pid=$(cat "/run/lab/$service.pid" 2> /dev/null) || continue
    kill -TERM "$pid" 2> /dev/null || continue
    for ((i = 0; i < stop_grace * 10; i++)); do
        kill -0 "$pid" 2> /dev/null || break
        pause 0.1
    done
done
mapfile -t volumes < <(awk '$5 ~ "^/mnt/vdvs/" { print $5 }' /proc/self/mountinfo | tac)
for volume in "${volumes[@]}"; do umount "$volume" || true; done
echo "power off"
