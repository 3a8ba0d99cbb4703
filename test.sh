#!/usr/bin/env bash
# Runs every check of the project: formatting, vet, staticcheck, the tests under
# the race detector, and the suite with real clients (curl, git, Chromium, wrk, nginx).
# Debian packages that the second suite needs are installed when this runs as root;
# otherwise the tests whose program is missing are skipped and named.
set -euo pipefail
cd "$(dirname "$0")"

need=(curl git wrk nginx chromium)
missing=()
for program in "${need[@]}"; do
	PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "== installing ${missing[*]}"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]/#nginx/nginx-light}" >/dev/null
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
go vet -tags clients ./test/...

echo "== staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

echo "== tests, race detector on"
go test -race ./...

echo "== real clients against the built program"
go test -tags clients -count=1 ./test/...

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
