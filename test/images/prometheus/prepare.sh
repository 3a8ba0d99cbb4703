#!/usr/bin/env bash
# prepare.sh STAGE: unpacks Debian's Prometheus into STAGE/root, with the C library that its programs are linked with.
# Its package is not installed, since that would bring its whole web interface's libraries.
set -euo pipefail
cd "$1"
apt-get -o APT::Sandbox::User=root download -qq prometheus
mkdir -p unpacked root/bin root/etc root/usr/share data
dpkg-deb -x prometheus_*.deb unpacked
mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool root/bin/
mv unpacked/etc/prometheus root/etc/
mv unpacked/usr/share/prometheus root/usr/share/
while read -r library; do
	mkdir -p "root${library%/*}"
	cp -L "$library" "root$library"
done < <(ldd root/bin/prometheus root/bin/promtool | grep -oE '/lib[^ ]+' | sort -u)
rm -rf unpacked prometheus_*.deb
