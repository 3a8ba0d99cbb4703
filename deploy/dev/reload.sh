#!/bin/sh
# Runs one service of docker-compose.dev.yaml and starts it anew when build.sh has put another program in place.
#   reload.sh SUBCOMMAND [ARGUMENT...]
# It is process 1 of its container: it hands signals on, and ends with the service's own exit status.
set -u

bin=${RELOAD_PROGRAM:-/app/bin/quickthorn}
start=$(dirname "$0")/../../docker-entrypoint.sh

child=
stopped=

stop() {
	stopped=yes
	[ -z "$child" ] || kill -TERM "$child" 2>/dev/null || :
}
trap stop TERM INT

# The program that was renamed into place has another inode than the one that still runs.
inode() { ls -i "$bin" 2>/dev/null; }

pause() {
	sleep 0.5 &
	wait $! || :
}

watch() {
	while now=$(inode); [ -z "$now" ] || [ "$now" = "$running" ]; do sleep 0.5; done
	kill -TERM "$child" 2>/dev/null || :
}

[ -x "$bin" ] || echo "reload.sh: $1 waits for the first build of $bin" >&2
while [ ! -x "$bin" ]; do
	[ -z "$stopped" ] || exit 143
	pause
done

while [ -z "$stopped" ]; do
	running=$(inode)
	sh "$start" "$@" &
	child=$!
	[ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null || :
	(
		trap - TERM INT
		watch
	) &
	watcher=$!
	status=0
	wait "$child" || status=$?
	if [ -n "$stopped" ]; then
		# The signal ended the wait, not the child.
		trap '' TERM INT
		wait "$child"
		ended=$?
		[ "$ended" = 127 ] || status=$ended
	fi
	# Not TERM: a watcher so young that it still has this shell's trap would take it and live on.
	kill -KILL "$watcher" 2>/dev/null || :
	wait "$watcher" 2>/dev/null || :
	[ -z "$stopped" ] || exit "$status"
	# Ended by itself: the container ends too, and its restart policy decides.
	[ "$(inode)" != "$running" ] || exit "$status"
	echo "reload.sh: starts $1 anew" >&2
done
