#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/chroot-check.sh SUITE DIR [COMMAND]...
#
# For developers, as root: does a fresh clone build and pass its tests on a machine that
# has nothing installed? Makes a minimal Debian of SUITE (bookworm, trixie) in DIR with
# nothing added but make, copies what is committed (HEAD) to it, and runs each COMMAND
# there, by default `make demo` and `make check`. DIR/uhmm-base-SUITE.tar keeps the
# untouched system for the next run. The mirror and the proxy are those that apt uses
# here.
#
# Everything runs in mount and process namespaces of its own: no mount and no process is
# left. Prints one line per command, exits 1 if any failed.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '4s/^# /usage: /p' "$0" >&2; exit 2; }
suite=$1 dir=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- "make demo" "make check"
source=$(cd "$(dirname "$0")/.." && pwd)
root=$dir/root base=$dir/uhmm-base-$suite.tar
[ "$(id -u)" = 0 ] || { echo "chroot-check.sh: must be root" >&2; exit 2; }
command -v debootstrap >/dev/null || "$source/scripts/deps.sh" dev

proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
[ -z "$proxy" ] || export http_proxy="$proxy"

if [ ! -f "$base" ]; then
	mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' \
		'Created-By: Packages' | sed -n 's/^Debian //p' | head -n 1)
	if [ -z "$mirror" ]; then
		echo "chroot-check.sh: apt knows no Debian mirror" >&2
		exit 2
	fi
	rm -rf "$root"
	debootstrap --variant=minbase --include=make "$suite" "$root" "$mirror" >&2
	tar -C "$root" -cf "$base.part" .
	mv "$base.part" "$base"
fi

rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$base"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
[ -z "$proxy" ] ||
	echo "Acquire::http::Proxy \"$proxy\";" >"$root/etc/apt/apt.conf.d/proxy"
mkdir -p "$root/src/uhmm"
git -C "$source" archive HEAD | tar -C "$root/src/uhmm" -xf -

inside()
{
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare --mount --pid --fork --kill-child --propagation private \
		sh -euc '
			root=$1 command=$2
			# / is a mount, as elsewhere: tests make mounts of their own.
			mount --bind "$root" "$root"
			mount -t proc proc "$root/proc"
			mount -t sysfs sysfs "$root/sys"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
			exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent \
				TERM=dumb LANG=C.UTF-8 \
				chroot "$root" sh -c "cd /src/uhmm && $command"
		' sh "$root" "$1" </dev/null
}

failed=0 outcome=
for command; do
	start=$SECONDS status=0
	inside "$command" || status=$?
	outcome+="$suite: $command: status $status, $((SECONDS - start)) s"$'\n'
	[ "$status" = 0 ] || failed=1
done
printf '\n%s' "$outcome"
exit "$failed"
