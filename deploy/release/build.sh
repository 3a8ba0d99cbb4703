#!/usr/bin/env bash
# Builds a release into a directory: for each architecture one archive with the four programs, a list of
# what is in each (CycloneDX), and checksums. The same source and Go version give the same files, to the byte.
#
#   deploy/release/build.sh VERSION DIRECTORY
#
# REVISION is the commit; PLATFORMS (linux/amd64 linux/arm64) and SBOM=no can be set.
set -euo pipefail
version=${1:?name the version, such as v1.2.3}
out=${2:?name the directory to write to}
cd "$(dirname "$0")/../.."
mkdir -p "$out"
out=$(cd "$out" && pwd)
revision=${REVISION:-$(git rev-parse HEAD)}
package=github.com/quickthorn/quickthorn/internal/command
programs=(quickthorn proxy cloud-proxy prompt-router)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

for platform in ${PLATFORMS:-linux/amd64 linux/arm64}; do
	os=${platform%/*} arch=${platform#*/}
	name=quickthorn_${version}_${os}_$arch
	dir=$stage/$name
	mkdir -p "$dir"
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch GOAMD64=v1 GOARM64=v8.0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $package.version=$version -X $package.revision=$revision" \
		-o "$dir/" ./cmd/quickthorn ./proxy ./cloud-proxy ./prompt-router
	cp LICENSE README.md "$dir/"
	if [ "${SBOM:-yes}" != no ]; then
		for program in "${programs[@]}"; do
			go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 bin -json -noserial -version "$version" \
				-output "$dir/$program.cdx.json" "$dir/$program"
		done
	fi
	# Names sorted, and no time, owner or group of this machine.
	tar -C "$stage" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw -cf - "$name" | gzip -n -9 >"$out/$name.tar.gz"
done
cd "$out"
sha256sum quickthorn_"$version"_*.tar.gz >SHA256SUMS
