#!/usr/bin/env bash
# Makes the images that the project's Dockerfiles and Compose files name, from Debian's packages and the Go
# toolchain of this machine, for machines that reach no image registry. See README.md beside this file.
#
#   build.sh         makes what is missing or out of date, tells what it does, ends with lines for an .env file
#   build.sh --env   the same, with nothing but those lines on standard output
set -euo pipefail
cd "$(dirname "$0")"
umask 022 # other users read what is copied into images
export DOCKER_BUILDKIT=0 # BuildKit is not on every machine, and what is built here needs nothing of it

case "${1-} $#" in
" 0") progress=1 ;;
"--env 1") progress=2 ;;
*)
	echo "usage: $0 [--env]" >&2
	exit 2
	;;
esac
say() { echo "$*" >&"$progress"; }
fail() {
	echo "$0: $*" >&2
	exit 1
}

for program in docker go flock sha256sum; do
	command -v "$program" >/dev/null || fail "$program is not installed"
done
docker version >/dev/null 2>&1 || fail "the Docker daemon does not answer: 'docker version' tells why"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${ID-}/${VERSION_CODENAME-}")
[ "$codename" = debian/bookworm ] || fail "this needs Debian bookworm, whose packages it takes; this machine says $codename"
goroot=$(cd / && GOTOOLCHAIN=local go env GOROOT)
goversion=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
[[ "$goversion" =~ ^go(1\.[0-9]+) ]] || fail "$goroot is not a released Go toolchain: it says $goversion"
gominor=${BASH_REMATCH[1]}
ca=/etc/ssl/certs/ca-certificates.crt
[ -s "$ca" ] || fail "$ca is missing: install ca-certificates"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/quickthorn-images
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -w 1800 9 || fail "another build has held $cache/lock for half an hour"

prefix=quickthorn-test
declare -A tag=(
	[debian]=$prefix/debian:bookworm
	[busybox]=$prefix/busybox:1.37
	[golang]=$prefix/golang:$gominor
	[redis]=$prefix/redis:7
	[postgres]=$prefix/postgres:15
	[mailpit]=$prefix/mailpit:1.27
	[prometheus]=$prefix/prometheus:2
)
all=(debian busybox golang redis postgres mailpit prometheus) # parents first
declare -A parent=([golang]=debian [redis]=debian [postgres]=debian [mailpit]=busybox [prometheus]=busybox)

# What an image is made of besides the files of its folder.
declare -A input=(
	[debian]=$(cat "$ca" /usr/local/share/ca-certificates/*.crt /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sha256sum)
	[golang]=$goversion
	[mailpit]=$goversion
)

# An image whose label has the hash of all that it is made of now is up to date. Its own hash leaves this file and
# the image below out: what prepare.sh has kept under it stays good when only those change.
label=quickthorn.test.inputs
declare -A own want have
sum() { sha256sum | cut -d ' ' -f 1; }
for name in "${all[@]}"; do
	own[$name]=$({ dpkg --print-architecture; echo "${input[$name]-}"; sha256sum "$name"/*; } | sum)
	want[$name]=$({ echo "${own[$name]} ${want[${parent[$name]-none}]-}"; sha256sum build.sh; } | sum)
done
while read -r image hash; do
	[ -z "$image" ] || have[$image]=$hash
done < <(docker image inspect --format "{{range .RepoTags}}{{.}} {{index \$.Config.Labels \"$label\"}}{{println}}{{end}}" "${tag[@]}" 2>/dev/null || true) # some may be missing

stale() { [ "${have[${tag[$1]}]-}" != "${want[$1]}" ]; }

work=
cleanup() {
	jobs -p | xargs -r kill 2>/dev/null || true # there are none unless this was interrupted
	[ -z "$work" ] || rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# make builds one image; what it has to say goes to its log.
make() {
	local name=$1 stage=$work/$1 log=$cache/$1.log begin=$SECONDS old
	say "== ${tag[$name]}: building, log in $log"
	mkdir "$stage"
	install -m 755 "$name"/* "$stage"
	sed -i "/^FROM /a LABEL $label=${want[$name]}" "$stage/Dockerfile" # --label would be a last step, which is a slow one
	old=$(docker image inspect --format '{{.Id}}' "${tag[$name]}" 2>/dev/null || true) # there may be none
	if ! {
		{ [ ! -e "$name/prepare.sh" ] || GOROOT="$goroot" timeout 1200 bash "$name/prepare.sh" "$stage" "$cache" "${own[$name]}"; } &&
			timeout 900 docker build --network host --force-rm "${settings[@]}" --tag "${tag[$name]}" "$stage"
	} >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		fail "${tag[$name]} could not be built; the whole log is $log"
	fi
	rm -rf --one-file-system "$stage"
	if [ -n "$old" ] && [ "$old" != "$(docker image inspect --format '{{.Id}}' "${tag[$name]}")" ]; then
		docker rmi "$old" >/dev/null 2>&1 || true # it stays for as long as a container or an image made of it does
	fi
	say "== ${tag[$name]}: built in $((SECONDS - begin)) s"
}

chain() {
	local name
	for name in "$@"; do
		if stale "$name"; then make "$name"; else say "== ${tag[$name]}: up to date"; fi
	done
}

missing=
for name in "${all[@]}"; do
	if stale "$name"; then missing=1; fi
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] || fail "images have to be built, which only root can: their root file systems have files of several users"
	settings=() # Docker knows these build arguments without an ARG and keeps them out of the image
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ -z "${!name-}" ] || settings+=(--build-arg "$name")
	done
	work=$(mktemp -d "${TMPDIR:-/tmp}/quickthorn-images.XXXXXX")
	say "== Debian's package lists"
	timeout 300 apt-get update -qq >&2 || say "   not all of them could be renewed: going on with what there is"
	command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends debootstrap >&2
	# Two at a time: one waits mostly for packages and disks, the other compiles.
	chain debian golang redis postgres &
	one=$!
	chain busybox mailpit prometheus &
	other=$!
	status=0
	wait "$one" || status=1
	wait "$other" || status=1
	[ "$status" = 0 ] || exit 1
else
	for name in "${all[@]}"; do say "== ${tag[$name]}: up to date"; done
fi

cat <<END
GO_IMAGE=${tag[golang]}
RUNTIME_IMAGE=${tag[busybox]}
REDIS_IMAGE=${tag[redis]}
POSTGRES_IMAGE=${tag[postgres]}
MAILHOG_IMAGE=${tag[mailpit]}
PROMETHEUS_IMAGE=${tag[prometheus]}
END
