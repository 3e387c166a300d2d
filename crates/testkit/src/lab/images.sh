#!/bin/bash
# Makes an image's root file system from programs installed on this machine and packs it.
# usage: images.sh busybox|postgres WORKDIR TARBALL
set -eu

kind=$1 root=$2 tarball=$3

busybox_into() {
    mkdir -p "$root/bin"
    cp /bin/busybox "$root/bin/"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
}

postgres_into() {
    local pg=/usr/lib/postgresql/15 file lib
    mkdir -p "$root"/{usr/bin,tmp,etc,proc,sys,dev,run/postgresql,var/lib/postgresql,lib64,usr/lib/locale} \
        "$root"/usr/share/{postgresql,zoneinfo} "$root$pg"/{bin,lib}
    ln -s ../run "$root/var/run"
    chmod 1777 "$root/tmp"
    for file in postgres initdb psql pg_ctl pg_isready pg_dump; do cp "$pg/bin/$file" "$root$pg/bin/"; done
    # On everybody's search path, as in the official image.
    for file in psql pg_dump; do ln -s "$pg/bin/$file" "$root/usr/bin/$file"; done
    cp "$pg"/lib/{plpgsql,dict_snowball,libpqwalreceiver}.so "$root$pg/lib/"
    cp -r /usr/share/postgresql/15 "$root/usr/share/postgresql/"
    # Time zones come from the machine's own copy; the two that are used whatever the machine is set to.
    cp -rL /usr/share/zoneinfo/{UTC,Etc} "$root/usr/share/zoneinfo/"
    cp -r /usr/lib/locale/C.utf8 "$root/usr/lib/locale/"
    rm -f "$root"/bin/{setpriv,sync}
    cp /usr/bin/setpriv /usr/bin/sync "$root/bin/"
    for file in "$root"/bin/{setpriv,sync} "$root$pg"/bin/* "$root$pg"/lib/*.so; do ldd "$file"; done |
        awk '/=> \//{ print $3 }' | sort -u |
        while read -r lib; do
            mkdir -p "$root$(dirname "$lib")"
            cp -L "$lib" "$root$lib"
        done
    cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
    printf 'root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n' > "$root/etc/passwd"
    printf 'root:x:0:\npostgres:x:999:\n' > "$root/etc/group"
    printf 'local all all trust\nhost all all all trust\n' > "$root/etc/pg_hba.conf"
    cat > "$root/entry.sh" << 'ENTRY'
#!/bin/sh
# As the official image's: root prepares the folder, then postgres takes over; a fresh folder is initialised.
export PATH=/usr/lib/postgresql/15/bin:/bin:/usr/bin PGDATA=${PGDATA:-/var/lib/postgresql/data} LC_ALL=C
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    # The folder itself must be as durable as what the database will put into it.
    sync "$PGDATA" "$(dirname "$PGDATA")"
    exec /bin/setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/initialised" ]; then
    # A set-up that the power failed in the middle of is begun anew; what it left was never served.
    echo "no database here: initialising"
    rm -rf "${PGDATA:?}"/* "$PGDATA"/.[!.]*
    initdb -D "$PGDATA" -A trust -E UTF8 > /dev/null || exit 1
    echo yes > "$PGDATA/initialised"
    sync "$PGDATA/initialised" "$PGDATA"
else
    echo "database found"
fi
exec postgres -D "$PGDATA" -c hba_file=/etc/pg_hba.conf -c listen_addresses='*' "$@"
ENTRY
    chmod 755 "$root/entry.sh"
    chown -R 999:999 "$root/var/lib/postgresql" "$root/run/postgresql"
}

rm -rf "$root"
mkdir -p "$root"
busybox_into
if [ "$kind" = postgres ]; then postgres_into; fi
tar --create --numeric-owner --directory "$root" --file "$tarball" .
rm -rf "$root"
