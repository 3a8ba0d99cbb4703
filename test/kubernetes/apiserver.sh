#!/usr/bin/env bash
# Builds a real kube-apiserver for TestAPIServer, which applies every manifest to it with server-side dry run, and keeps
# it in the cache. Cold that takes about 20 minutes on two cores; when the binary is there nothing is built.
# Its modules come from the Go module proxy: no image, no download page.
#
#   test/kubernetes/apiserver.sh            # build if it is missing, then say where it is
#   test/kubernetes/apiserver.sh --test     # the same, and run the test
set -euo pipefail
cd "$(dirname "$0")"

version=1.37.2 # the test looks for the same one; raise both together with k8s.io/api in go.mod
case "${1:-}" in
"" | --test) ;;
*)
	echo "usage: $0 [--test]" >&2
	exit 2
	;;
esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/quickthorn-kube
binary=$cache/kube-apiserver-$version

build() {
	local scratch=$cache/source-$version modfile
	mkdir -p "$scratch"
	cd "$scratch"
	rm -f go.mod go.sum main.go
	go mod init quickthorn.invalid/kube-apiserver
	modfile=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
	# Its own go.mod points these at a folder that modules do not carry; the same code is published under v0.
	sed -n 's|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|\1|p' "$modfile" | while read -r module; do
		go mod edit -replace "$module=$module@v0.${version#*.}"
	done
	go mod edit -require "k8s.io/kubernetes@v$version"
	printf 'package main\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n\nfunc main() {}\n' >main.go
	go mod tidy
	CGO_ENABLED=0 nice -n 19 go build -trimpath -o "$binary.new" k8s.io/kubernetes/cmd/kube-apiserver
	mv "$binary.new" "$binary"
	cd - >/dev/null
	rm -r "$scratch"
}

if [ ! -x "$binary" ]; then
	echo "== building kube-apiserver v$version (about 20 minutes)" >&2
	mkdir -p "$cache"
	# Two at once would only slow each other down: the second waits, and then finds the binary.
	exec 9>"$cache/lock"
	flock 9
	if [ ! -x "$binary" ]; then
		build
	fi
fi
echo "$binary"

if [ "${1:-}" = --test ]; then
	STRICT_TESTS=1 exec go test -count=1 -timeout 300s -run 'TestAPIServer' -v .
fi
