#!/usr/bin/env bash
# prepare.sh STAGE CACHE HASH: puts a minimal Debian into STAGE/rootfs.tar.gz. It takes its packages from where this machine takes them.
set -euo pipefail
stage=$1 kept=$2/debian-$3.tar.gz
if [ ! -s "$kept" ]; then
	root=$stage/root
	# Where this machine has Debian itself from, as lines for sources.list.
	sources=$(apt-cache policy | awk '
		$1 ~ /^[0-9]+$/ { uri = $2; n = split($3, part, "/") }
		$1 == "release" && /(^|[ ,])o=Debian,/ && n == 2 { print "deb", uri, part[1], part[2] }' | sort -u)
	mirror=$(awk '$3 == "bookworm" && $4 == "main" { print $2; exit }' <<<"$sources")
	[ -n "$mirror" ] || {
		echo "apt-cache policy names no source of Debian bookworm main" >&2
		exit 1
	}
	debootstrap --variant=minbase bookworm "$root" "$mirror"

	echo "$sources" >"$root/etc/apt/sources.list"
	# Proxies, and what else this machine needs to reach its sources.
	apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIPv)' >"$root/etc/apt/apt.conf.d/90host" || true # none is usual
	cat >"$root/etc/apt/apt.conf.d/80small" <<-'END'
		APT::Install-Recommends "false";
		APT::Keep-Downloaded-Packages "false";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
	END
	cat >"$root/etc/dpkg/dpkg.cfg.d/80small" <<-'END'
		force-unsafe-io
		path-exclude=/usr/share/doc/*
		path-exclude=/usr/share/man/*
		path-exclude=/usr/share/locale/*
	END
	# No package may start its service while an image is built.
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	# The authorities that this machine trusts: without them nothing is downloaded where a proxy looks into TLS.
	mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
	cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	find /usr/local/share/ca-certificates -name '*.crt' -exec cp -L -t "$root/usr/local/share/ca-certificates" {} +

	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* "$root"/var/log/*.log \
		"$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
	rm -f "$2"/debian-*.tar.gz
	tar -C "$root" --one-file-system --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --numeric-owner -cf - . | gzip -1 >"$kept.part"
	mv "$kept.part" "$kept"
	rm -rf --one-file-system "$root"
fi
cp "$kept" "$stage/rootfs.tar.gz"
