#!/usr/bin/env bash
# prepare.sh STAGE CACHE: builds Mailpit without cgo, so that it needs no C library, and puts it into STAGE/mailpit.
set -euo pipefail
version=v1.27.11
kept=$2/mailpit-$version
if [ ! -s "$kept" ]; then
	cd "$1"
	CGO_ENABLED=0 GOBIN="$1/bin" GOFLAGS=-mod=mod GOWORK=off GOTOOLCHAIN=local go install -trimpath -ldflags='-s -w' "github.com/axllent/mailpit@$version"
	mv bin/mailpit "$kept.part"
	mv "$kept.part" "$kept"
	rmdir bin
fi
cp "$kept" "$1/mailpit"
