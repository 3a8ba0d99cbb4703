#!/bin/sh
# Starts what it is given. Options alone, or a configuration file alone, mean redis-server.
set -eu
case "${1-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "${1-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find /data ! -user redis -exec chown redis:redis {} +
	exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
if [ "${1-}" = redis-server ]; then
	# The official image is built with protected mode off: in a container every client is a remote one.
	# A configuration that says otherwise keeps its word.
	said=
	for word in "$@"; do
		case "$word" in
		--protected-mode) said=1 ;;
		*.conf) ! grep -qs '^[[:space:]]*protected-mode' "$word" || said=1 ;;
		esac
	done
	[ -n "$said" ] || set -- "$@" --protected-mode no
	umask 0077
fi
exec "$@"
