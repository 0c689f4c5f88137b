#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# fetch.sh VERSION DIR: the kernel's own test of /dev/hmm_dmirror, and what it includes,
# below DIR/linux-source-VERSION. It is the kernel's and under its licence: it is fetched
# where it is run, and is no part of this tree.
#
# It comes out of Debian's package linux-source-VERSION: from the archives that apt knows
# of here, or, where those are of another release, from the one that has it, at the same
# place and with apt's own check of its signature. Nothing is installed, and apt's lists
# are left alone. DIR keeps it for the next time.
#
# Exit status 77: no archive can be reached, or sid has gone on to another version; 1:
# something else is wrong. The last line says why.
set -euo pipefail
. "$(dirname "$0")/../archive.sh"

version=$1 dir=$2
name=linux-source-$version
declare -A suites=([6.1]=bookworm [6.12]=trixie [7.2]=sid)
suite=${suites[$version]:?no release is known to have $name}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt_options=(-q -o APT::Sandbox::User=root -o Acquire::Retries=2
	-o Acquire::http::Timeout=30)

skip()
{
	echo "$1"
	exit 77
}

# The package's file, in the current directory. A name that apt does not know it takes for
# a part of one: 6.1 of 6.12.
download()
{
	apt-get "${apt_options[@]}" "$@" download "^$name\$" >>log 2>&1 &&
		ls "$name"_*.deb >/dev/null 2>&1
}

# Where Debian's packages come from here, or else do for everybody.
place()
{
	local known

	known=$(archive 2>>log)
	echo "${known:-http://deb.debian.org/debian/}" | cut -d ' ' -f 1
}

# With lists of our own, of that release alone.
download_from_release()
{
	local root=$PWD/apt own

	[ -r "$keyring" ] || skip "there is no $keyring: Debian's archive is signed by it"
	mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
	: >"$root/status"
	echo "deb [signed-by=$keyring] $(place) $suite main" >"$root/sources.list"
	own=(-o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State::lists=$root/lists" -o "Dir::State::status=$root/status"
		-o "Dir::Cache=$root/cache" -o Acquire::Languages=none)
	apt-get "${apt_options[@]}" "${own[@]}" update >>log 2>&1 || return 1
	download "${own[@]}"
}

[ ! -e "$dir/$name/complete" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
	skip "there is no apt-get here: $name is a package of Debian"
mkdir -p "$dir/$name.part"
cd "$dir/$name.part"
: >log
# Not both: what is asked for by FETCH_RELEASE=1 is to be the second.
{ [ -z "${FETCH_RELEASE:-}" ] && download; } || download_from_release || {
	if disk_is_full log; then
		echo "the disk is full: $dir"
		exit 1
	fi
	why="$name cannot be had from $(place): $(sed -n '/^[EW]:/p' log | tail -n 1)"
	# The archive has answered, so it is not the network.
	if ls apt/lists/*_Packages* >/dev/null 2>&1 && [ "$suite" != sid ]; then
		echo "$why"
		exit 1
	fi
	skip "$why"
}
# Its place in the tree changed with Linux 6.3.
dpkg-deb --fsys-tarfile "$name"_*.deb | tar -xO "./usr/src/$name.tar.xz" |
	tar -xJ --wildcards --strip-components=1 \
		'*/tools/testing/selftests/[vm]m/*.[ch]' \
		'*/tools/testing/selftests/kselftest*.h' \
		'*/tools/include/uapi/linux/fs.h' '*/tools/include/linux/kernel.h' \
		'*/lib/test_hmm_uapi.h' '*/mm/gup_test.h'
rm -rf "$name"_*.deb apt
touch complete
cd ..
rm -rf "$name"
mv "$name.part" "$name"
