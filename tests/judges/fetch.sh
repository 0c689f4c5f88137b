#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# fetch.sh PACKAGE DIR: Debian's source package, unpacked and patched, at
# DIR/source-PACKAGE/src. It is under its own licence: it is fetched where it is run, and
# is no part of this tree.
#
# It comes from the archive and the release that apt knows of here, with apt's own check
# of signatures. apt's lists seldom have source packages, so this uses lists of its own,
# kept in DIR for the next package; nothing is installed, and apt's are left alone. That
# needs no root.
#
# Exit status 77: it cannot be had here; 1: something else is wrong. The last line says
# why.
set -euo pipefail
. "$(dirname "$0")/../archive.sh"

package=$1 dir=$2
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt=$dir/apt-src

skip()
{
	echo "$1"
	exit 77
}

apt_get()
{
	apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=2 \
		-o Acquire::http::Timeout=30 -o Acquire::Languages=none \
		-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- \
		-o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" \
		-o "Dir::Cache=$apt/cache" "$@"
}

why()
{
	sed -n '/^[EW]:/p' log | head -n 1
}

unreachable()
{
	if disk_is_full log; then
		echo "the disk is full: $dir"
		exit 1
	fi
	skip "$1: $(why)"
}

[ ! -e "$dir/source-$package/complete" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-source >/dev/null ||
	skip "there is no apt-get or no dpkg-source here: $package is a package of Debian"
[ -r "$keyring" ] || skip "there is no $keyring: Debian's archive is signed by it"
from=$(archive)
[ -n "$from" ] || skip "apt knows no archive of Debian here"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
echo "deb-src [signed-by=$keyring] $from main" >"$apt/sources.list"

part=$dir/source-$package.part
rm -rf "$part"
mkdir -p "$part"
cd "$part"
apt_get update >log 2>&1 && ls "$apt"/lists/*_Sources* >/dev/null 2>&1 ||
	unreachable "$from cannot be reached"
apt_get source --download-only "$package" >>log 2>&1 ||
	unreachable "the source of $package cannot be had from $from"
dpkg-source --no-check -x ./*.dsc src >>log 2>&1 || {
	echo "$package does not unpack: $(tail -n 1 log)"
	exit 1
}
rm -f ./*.tar.*
touch complete
cd ..
rm -rf "source-$package"
mv "$part" "source-$package"
