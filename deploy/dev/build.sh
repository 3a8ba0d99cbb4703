#!/bin/sh
# Compiles quickthorn whenever a source file changes, for the services of docker-compose.dev.yaml, which run it under reload.sh.
# One build for all of them. A program that does not compile leaves the one before in place.
#   build.sh [SOURCE [DIRECTORY]]    default: /app/src and /app/bin
set -u

source=${1:-/app/src}
bin=${2:-/app/bin}

trap 'exit 143' TERM INT

# Names, sizes and times: seen on every kind of mount, also when a checkout brings back an older file. Events of the kernel are not.
state() {
	find cmd internal go.mod go.sum -type f -printf '%p %s %T@\n' 2>/dev/null | sort | cksum
}

say() { echo "build.sh: $*"; }

build() {
	began=$(date +%s)
	# -w leaves the debugger's tables out, whose writing takes as long as the rest of linking; our own packages (not the modules, which
	# are compiled once) are not optimised, which nearly halves the time when a change concerns them all.
	go build -trimpath -buildvcs=false -ldflags=-w -gcflags='./...=-N -l' -o "$bin/quickthorn.new" ./cmd/quickthorn &
	wait $! || {
		say "does not compile: the services go on with the program they have" >&2
		return 1
	}
	if cmp -s "$bin/quickthorn.new" "$bin/quickthorn"; then
		rm -f "$bin/quickthorn.new"
		say "no change in the program"
		return 0
	fi
	chmod 0755 "$bin/quickthorn.new"
	mv -f "$bin/quickthorn.new" "$bin/quickthorn"
	say "compiled in $(($(date +%s) - began)) s"
}

cd "$source" || exit 1
mkdir -p "$bin" || exit 1
seen=
while :; do
	now=$(state)
	if [ "$now" != "$seen" ]; then
		# Taken before the build: what is saved while it runs is built next.
		seen=$now
		build || :
	fi
	sleep 0.5 &
	wait $!
done
