#!/bin/sh
# Asks the plugin as Docker does and prints its answer:   volume VERB [JSON]

body=$2
[ -n "$body" ] || body='{}'
{
    printf 'POST /VolumeDriver.%s HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n' "$1"
    printf 'Content-Length: %d\r\nConnection: close\r\n\r\n%s' "$(printf %s "$body" | wc -c)" "$body"
} | socat -T 150 STDIO,ignoreeof UNIX-CONNECT:/run/docker/plugins/vsphere.sock | sed '1,/^.\{0,1\}$/d'
