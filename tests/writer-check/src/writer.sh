# sh -s FILE NODE [PAUSE_US]: appends lines NODE TURN SEQUENCE TIME, flushes each, then prints its sequence.
# Busybox only. The clock is the uptime, to 10 ms. Ends with 5 when a line cannot be written or flushed.
file=$1 node=$2 pause=${3:-20000}
now() {
    read -r up _ < /proc/uptime
    echo "${up%.*}${up#*.}0000000"
}
# A torn end of a power cut gets a line's end, so that the next line stands by itself.
if [ -s "$file" ] && [ "$(tail -c 1 "$file" | tr '\n' x)" != x ]; then echo >> "$file" || exit 5; fi
last=$(grep -a '^[^ ]* [0-9]* [0-9]* [0-9]*$' "$file" 2> /dev/null | tail -n 1)
set -- $last
sequence=${3:-0}
turn=$(now)
stop=
trap 'stop=1' TERM INT
until [ "$stop" ]; do
    sequence=$((sequence + 1))
    echo "$node $turn $sequence $(now)" |
        dd of="$file" bs=4096 oflag=append conv=notrunc,fsync 2> /dev/null || exit 5
    echo "$sequence"
    usleep "$pause"
done
exit 0
