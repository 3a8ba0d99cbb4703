#!/usr/bin/env bash
# v2.sh [GO TEST FLAGS]: the suite with Compose v2 and BuildKit instead of docker-compose 1.29 and the classic builder.
# Both tools are compiled from their Go modules, once, into a cache: about six minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
buildx=v0.29.1 compose=v2.40.3
export DOCKER_CONFIG=${XDG_CACHE_HOME:-$HOME/.cache}/quickthorn-compose/$buildx-$compose
plugins=$DOCKER_CONFIG/cli-plugins
mkdir -p "$plugins"

# plugin NAME MODULE VERSION PACKAGE VARIABLE: go install refuses modules whose go.mod has an exclude, so it is built from a copy.
plugin() {
	[ -x "$plugins/$1" ] && return
	local work dir
	work=$(mktemp -d)
	dir=$(go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$dir" "$work/source"
	chmod -R u+w "$work/source"
	(cd "$work/source" && GOFLAGS=-mod=mod CGO_ENABLED=0 timeout 1200 go build -ldflags "-s -w -X $5=$3" -o "$plugins/$1.new" "$4")
	mv "$plugins/$1.new" "$plugins/$1"
	rm -rf --one-file-system "$work"
}
plugin docker-buildx github.com/docker/buildx "$buildx" ./cmd/buildx github.com/docker/buildx/version.Version
plugin docker-compose github.com/docker/compose/v2 "$compose" ./cmd github.com/docker/compose/v2/internal.Version
docker buildx version
docker compose version
TEST_COMPOSE="docker compose" exec go test -tags containers -count=1 -v -timeout 40m "$@" ./test/containers
