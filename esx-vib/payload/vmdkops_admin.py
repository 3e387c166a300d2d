#!/bin/sh
# The original's command line, for scripts that call it: the same commands, tables and exit codes.
exec /opt/vdvs/bin/vdvs vmdkops_admin.py "$@"
