#!/usr/bin/env bash
# Runs every check of the project: formatting, vet, staticcheck, the tests under
# the race detector (those of the stores against real Redis and PostgreSQL servers, those of alerts
# against a real mail server, all started by the tests themselves), the suite with real clients (curl, git, Chromium, wrk, nginx), the services
# apart, the images and the whole Compose file on a Docker Engine, manifests, charts, rules and dashboards, and releases.
# Debian packages that these need are installed when this runs as root;
# otherwise the tests whose program is missing are skipped and named.
set -euo pipefail
cd "$(dirname "$0")"

need=(curl git wrk nginx chromium redis-server postgres ip debootstrap shellcheck)
missing=()
for program in "${need[@]}"; do
	PATH="$PATH:/usr/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')" command -v "$program" >/dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "== installing ${missing[*]}"
		apt-get update -qq
		packages=("${missing[@]/#nginx/nginx-light}")
		packages=("${packages[@]/%postgres/postgresql}")
		packages=("${packages[@]/#ip/iproute2}")
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
	else
		echo "== not installed: ${missing[*]} (tests that need them are skipped)"
	fi
fi

echo "== gofmt"
unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
	echo "not formatted: $unformatted" >&2
	exit 1
fi
echo "== go vet"
go vet ./...
go vet -tags clients,services,containers,release ./test/... ./internal/challenge/... ./internal/page

echo "== staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

# What takes minutes of waiting, for packages and for stores that are away on purpose, runs beside the rest. Its output comes
# when it has ended.
logs=$(mktemp -d)
jobs=()
cleanup() {
	for job in "${jobs[@]}"; do kill -- -"$job" 2>/dev/null || :; done
	rm -rf "$logs"
}
trap cleanup EXIT
beside() { # NAME COMMAND…
	local name=$1
	shift
	setsid "$@" >"$logs/$name" 2>&1 & # a group of its own, so that it can be ended whole
	jobs+=("$!")
	eval "job_$name=$!"
}
await() { # NAME
	local status=0 job=job_$1
	wait "${!job}" || status=$?
	cat "$logs/$1"
	[ "$status" = 0 ] || { echo "failed: $1" >&2; exit 1; }
}
engine=no
if command -v docker >/dev/null && command -v docker-compose >/dev/null && docker info >/dev/null 2>&1; then
	engine=yes
else
	echo "== no Docker Engine that answers, or no docker-compose: the tests of images and of the whole stack are SKIPPED" >&2
fi
[ "$engine" = no ] || beside images nice test/images/build.sh

echo "== tests, race detector on"
go test -race ./...

echo "== allocations, race detector off"
go test -run Alloc ./internal/...

echo "== scenarios at their full size"
go test -run 'TestScenariosKeepTheirPromises' ./internal/run

if [ "$engine" = yes ]; then
	echo "== stand-ins for base and store images"
	await images
	beside containers nice go test -tags containers -count=1 -timeout 2400s -v ./test/containers
fi

echo "== real clients against the built program"
go test -tags clients -count=1 ./test/clients/... ./internal/challenge/script ./internal/page

echo "== the services apart, with real Redis, PostgreSQL and mail servers"
go test -tags services -count=1 ./test/services/...

echo "== Compose files, manifests, rules and dashboards"
for module in compose kubernetes monitoring providers; do
	(cd "test/$module" && go vet ./... && go test -count=1 -timeout 600s ./...)
done

echo "== releases"
go test -tags release -count=1 -timeout 900s ./test/release

if [ "$engine" = yes ]; then
	echo "== images and the whole stack on a Docker Engine"
	await containers
fi

echo "== govulncheck"
status=0
timeout 120 go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... >"${TMPDIR:-/tmp}/govulncheck.$$" 2>&1 || status=$?
if grep -q '^Vulnerability #' "${TMPDIR:-/tmp}/govulncheck.$$"; then
	cat "${TMPDIR:-/tmp}/govulncheck.$$" >&2
	exit 1
elif [ "$status" != 0 ]; then
	echo "   not run: its database cannot be reached from here"
fi
rm -f "${TMPDIR:-/tmp}/govulncheck.$$"
