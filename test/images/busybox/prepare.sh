#!/usr/bin/env bash
# prepare.sh STAGE: puts a root file system with busybox, the names it answers to and little else into STAGE/root.
set -euo pipefail
cd "$1"
apt-get -o APT::Sandbox::User=root download -qq busybox-static
mkdir unpacked root
dpkg-deb -x busybox-static_*.deb unpacked
mkdir -p root/{bin,sbin,usr/bin,usr/sbin,dev,etc,home,proc,root,run,sys,var/log,var/tmp} root/tmp
cp unpacked/bin/busybox root/bin/busybox
while read -r link; do
	[ "$link" = bin/busybox ] || { mkdir -p "root/${link%/*}" && ln -s /bin/busybox "root/$link"; }
done < <(unpacked/bin/busybox --list-full)
chmod 1777 root/tmp root/var/tmp
chmod 700 root/root
cat >root/etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
END
cat >root/etc/group <<'END'
root:x:0:
nobody:x:65534:
END
rm -rf unpacked busybox-static_*.deb
