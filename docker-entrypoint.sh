#!/bin/sh
# Starts one service of quickthorn: the arguments are those of the program.
# A service that cannot do without a store waits for it first, at most STORE_WAIT, and brings its schema up to date.
set -eu

stopped=
child=

# As process 1 a shell drops signals that it has no trap for, and a stop would last until the kill.
stop() {
	stopped=yes
	[ -z "$child" ] || kill -TERM "$child" 2>/dev/null || :
}

migrate() {
	trap stop TERM INT
	quickthorn migrate --wait "${STORE_WAIT:-60s}" &
	child=$!
	status=0
	wait "$child" || status=$?
	# The trap ends the wait, not the child.
	if [ -n "$stopped" ]; then
		wait "$child" || :
		exit 143
	fi
	trap - TERM INT
	case $status in
	0) ;;
	75) echo "docker-entrypoint.sh: a store cannot be reached: $1 starts without it and tries on" >&2 ;;
	*) exit "$status" ;;
	esac
}

case ${1:-} in
ai-service | sync) migrate "$1" ;;
esac

# exec, so that signals arrive at the program itself.
exec quickthorn "$@"
