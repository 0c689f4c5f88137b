#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# scripts/deps.sh SET...: sees to it that the packages of a set are installed.
#
# Sets: build (make), demo (make demo), check (make check), judges (make judges), bench
# (make bench), dev (make format, coverage of the rules that CONTRIBUTING.md asks for).
# What is missing is installed with apt, as root or through sudo where sudo needs no
# password or there is a terminal to ask on. Otherwise it says what is missing and how to
# get it, and exits 1; so it does when the installation failed. A tool that did not come
# from a package counts as present.
#
# No package here starts a service: redis-tools is there for redis-server, which is the
# same program under another name (who runs it makes the link).
set -eu

# package [probe]: a command, or =NAME for a pkg-config module.
packages()
{
	case $1 in
	build)
		cat <<-END
		gcc gcc
		libc6-dev
		make make
		meson meson
		ninja-build ninja
		pkgconf pkg-config
		scdoc scdoc
		liblz4-dev =liblz4
		libzstd-dev =libzstd
		libsodium-dev =libsodium
		liburing-dev =liburing
		libxxhash-dev =libxxhash
		libcjson-dev =libcjson
		END
		;;
	demo)
		packages build
		;;
	check)
		packages build
		cat <<-END
		g++ g++
		clang clang
		libclang-rt-dev
		valgrind valgrind
		python3 python3
		redis-tools redis-check-rdb
		sqlite3 sqlite3
		stress-ng stress-ng
		procps ps
		bash-completion
		xz-utils xz
		strace strace
		END
		;;
	bench)
		packages build
		cat <<-END
		python3 python3
		redis-tools redis-check-rdb
		util-linux mkswap
		mount swapon
		END
		;;
	judges)
		packages build
		cat <<-END
		python3 python3
		stress-ng stress-ng
		dpkg-dev dpkg-source
		tcl tclsh
		tcl-dev
		zlib1g-dev =zlib
		procps ps
		END
		;;
	dev)
		packages check
		cat <<-END
		clang-format clang-format
		clang-tidy clang-tidy
		debootstrap debootstrap
		END
		;;
	*)
		echo "deps.sh: unknown set '$1'; there are build, demo, check," \
			"judges, bench, dev" >&2
		exit 2
		;;
	esac
}

present()
{
	if command -v dpkg-query >/dev/null 2>&1 &&
	   dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null |
	   grep -qx installed; then
		return 0
	fi
	case ${2:-} in
	'') return 1 ;;
	=*) command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "${2#=}" ;;
	*) command -v "$2" >/dev/null 2>&1 ;;
	esac
}

missing=
for set in "${@:-build}"; do
	list=$(packages "$set") || exit $?
	while read -r package probe; do
		present "$package" "$probe" || missing="$missing $package"
	done <<-END
	$list
	END
done
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ' | sed 's/ *$//')
[ -n "$missing" ] || exit 0

command="apt-get install --no-install-recommends $missing"
refuse()
{
	{
		echo "uhmm: these packages are missing: $missing"
		echo "uhmm: $1"
		echo "uhmm: to install them, as root:"
		echo
		echo "    $command"
		echo
	} >&2
	exit 1
}

command -v apt-get >/dev/null 2>&1 ||
	refuse "there is no apt-get here; install what your system calls them"
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		refuse "you are not root, and there is no sudo"
	elif sudo -n true 2>/dev/null; then
		as_root="sudo -n"
	elif [ -t 0 ] && [ -t 2 ]; then
		as_root=sudo
	else
		refuse "you are not root, and sudo would ask for a password"
	fi
fi

apt()
{
	# shellcheck disable=SC2086 # words on purpose
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

echo "uhmm: installing $missing" >&2
# The lists may be old, or not there at all; one source that is down is no reason to stop.
apt update >&2 || echo "uhmm: apt-get update failed; trying with the lists there are" >&2
# shellcheck disable=SC2086
apt install --no-install-recommends $missing >&2 ||
	refuse "apt-get could not install them"
