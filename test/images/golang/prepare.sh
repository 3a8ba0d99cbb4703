#!/usr/bin/env bash
# prepare.sh STAGE: copies the Go toolchain at $GOROOT into STAGE/go, without the tests of Go itself.
set -euo pipefail
cp -rL "$GOROOT" "$1/go"
rm -rf "$1/go/test" "$1/go/api" "$1/go/doc"
# A third of the files are tests: the classic builder looks at every file with each step.
find "$1/go/src" \( -name testdata -type d -o -name "*_test.go" \) -prune -exec rm -rf {} +
