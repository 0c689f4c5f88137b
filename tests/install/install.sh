#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `make install`, and what can be done with what it installed: the list of files, both
# libraries from C and C++ through pkg-config, the examples, the headers alone, what the
# libraries export and need, the command from its installed place. TAP out.
#
# usage: install.sh SOURCE SCRATCH
set -uo pipefail

source=$1 scratch=$2
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch" || exit 1
unset DESTDIR PREFIX MAKEFLAGS MAKELEVEL
dest=$scratch/dest prefix=/opt/uhmm
number=0 failed=0
planned=26

echo "TAP version 13"
echo "1..$planned"

# point NAME COMMAND...: passes if the command does; exits 77: skipped, its last line why.
point()
{
	local name=$1 status

	shift
	number=$((number + 1))
	"$@" >log 2>&1
	status=$?
	case $status in
	0) echo "ok $number - $name" ;;
	77) echo "ok $number - $name # SKIP $(tail -n 1 log)" ;;
	*)
		failed=1
		echo "not ok $number - $name"
		echo "# status $status: $*"
		tail -n 40 log | sed 's/^/# /'
		;;
	esac
}

make_install()
{
	CC=gcc make -C "$source" install BUILD="$scratch/build" "$@"
}

# Paths below the prefix, Debian's directory for the machine's libraries left out.
installed_files()
{
	(cd "$dest$prefix" && find . ! -type d) | sed "s|^\./||; s|^lib/$triplet/|lib/|" |
		sort
}

file_list()
{
	{
		grep -v '^#' "$source/tests/install/files.txt"
		for device in "$source"/devices/*/; do
			echo "share/man/man7/uhmm-$(basename "$device").7"
		done
	} | sort >expected
	installed_files | diff expected -
}

pc()
{
	PKG_CONFIG_SYSROOT_DIR=$dest PKG_CONFIG_LIBDIR=$libdir/pkgconfig:$(
		pkg-config --variable pc_path pkg-config) pkg-config "$@" uhmm
}

pc_version()
{
	[ "$(pc --modversion)" = "$version" ]
}

# Exit status 77 when the compiler is not there; checks do not depend on which there are.
need()
{
	command -v "$1" >/dev/null || { echo "there is no $1"; exit 77; }
}

warnings="-Wall -Wextra -pedantic -Werror"

# use shared|static COMPILER FLAGS...: compiles user.c and runs it.
use()
{
	local how=$1 compiler=$2 libs

	shift 2
	need "$compiler"
	libs=$(pc --libs)
	[ "$how" = shared ] ||
		libs="$libdir/libuhmm.a $(pc --static --libs | sed 's/-luhmm//')"
	# shellcheck disable=SC2046,SC2086 # words on purpose
	"$compiler" "$@" $warnings -DEXPECTED_VERSION="\"$version\"" $(pc --cflags) \
		"$user" -o user $libs || return 1
	if [ "$how" = static ]; then
		! readelf -d user | grep -q libuhmm || return 1
	fi
	LD_LIBRARY_PATH=$libdir ./user
}

examples()
{
	local c

	for c in "$source"/examples/*.c; do
		# shellcheck disable=SC2046,SC2086
		gcc -std=gnu11 $warnings $(pc --cflags) "$c" -o example \
			$(pc --libs) || return 1
		LD_LIBRARY_PATH=$libdir timeout 60 ./example || return $?
	done
}

# Each header alone, in the language and dialect given.
headers()
{
	local compiler=$1 header

	need "$compiler"
	shift
	for header in "$dest$prefix"/include/uhmm/*.h; do
		printf '#include <uhmm/%s>\n' "$(basename "$header")" >alone.h
		# Twice, as two headers of an application would.
		cat alone.h alone.h >alone.c
		# shellcheck disable=SC2046,SC2086
		"$compiler" "$@" $warnings $(pc --cflags) -fsyntax-only alone.c ||
			return 1
	done
}

map_symbols()
{
	sed -n 's/^\t\(uhmm_[a-z0-9_]*\);$/\1/p' "$source/lib/libuhmm.map" | sort
}

exports()
{
	nm -D --defined-only "$libdir/libuhmm.so.0" |
		sed -n 's/.* T \(.*\)@@UHMM.*/\1/p' | sort | diff <(map_symbols) - &&
		# nothing without a version
		! nm -D --defined-only "$libdir/libuhmm.so.0" | grep -v '@@UHMM\| A UHMM'
}

archive_globals()
{
	nm -g --defined-only "$libdir/libuhmm.a" | sed -n 's/.* [TDBRW] //p' | sort |
		diff <(map_symbols) -
}

needs_only()
{
	local library=$1 allowed=$2

	[ -f "$library" ] || return 1
	! readelf -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' |
		grep -vE "^($allowed)$"
}

# Binding on first call would allocate and take locks in the middle of a fault.
binds_now()
{
	readelf -d "$1" | grep -qE 'BIND_NOW|FLAGS_1.*NOW'
}

# A program that is run sees no name of ours but the functions wrapped on purpose.
preload_hides()
{
	[ -f "$1" ] || return 1
	! nm -D --defined-only "$1" | grep -E ' (uhmm_|os_|page_|mirror_|XXH|LZ4)'
}

man_pages()
{
	local page

	for page in "$dest$prefix"/share/man/man*/*; do
		grep -q '^\.TH' "$page" || return 1
	done
}

run_installed()
{
	make_install PREFIX="$scratch/there" || return 1
	"$scratch/there/bin/uhmm" version | grep -q "$version" || return 1
	"$scratch/there/bin/uhmm" doctor >doctor || {
		echo "uhmm doctor: this machine does not permit it"
		return 77
	}
	# The installed preload is used, not the build's.
	mv "$scratch/build" "$scratch/gone"
	"$scratch/there/bin/uhmm" run --memory 64M --stats=json:stats -- \
		echo through >out &&
		grep -qx through out &&
		grep -q '"processes":[[:space:]]*1' stats
}

user=$source/tests/install/user.c
cp "$user" "$scratch/user.cc"
triplet=$(gcc -print-multiarch)
version=$(sed -n "s/^\tversion: '\(.*\)',/\1/p" "$source/meson.build")

point "make install" make_install DESTDIR="$dest" PREFIX=$prefix
libdir=$(dirname "$(find "$dest" -name 'libuhmm.so.0')")
preload=$libdir/uhmm/libuhmm-preload.so
dmirror=$libdir/uhmm/libuhmm-dmirror.so
point "installs the files it should and no others" file_list
point "pkg-config knows the version" pc_version
point "C99, gcc, shared" use shared gcc -std=c99 -D_DEFAULT_SOURCE
point "C11, gcc, static" use static gcc -std=c11
point "C11, clang, shared" use shared clang -std=c11
point "C17, clang, static" use static clang -std=c17
user=$scratch/user.cc
point "C++11, g++, shared" use shared g++ -std=c++11
point "C++20, g++, static" use static g++ -std=c++20
point "C++17, clang++, shared" use shared clang++ -std=c++17
point "the examples" examples
point "headers alone, C99" headers gcc -std=c99
point "headers alone, C11" headers clang -std=c11
point "headers alone, C++11" headers g++ -std=c++11 -x c++
point "headers alone, C++20" headers clang++ -std=c++20 -x c++
point "libuhmm.so exports its map" exports
point "libuhmm.a defines its map" archive_globals
point "libuhmm.so needs nothing unexpected" \
	needs_only "$libdir/libuhmm.so.0" \
	'lib(c\.so\.6|lz4\.so\.1|zstd\.so\.1|sodium\.so\.23|uring\.so\.2)|ld-linux.*'
point "the preload needs nothing but libc" \
	needs_only "$preload" 'libc\.so\.6|ld-linux.*'
point "the preload binds when it is loaded" binds_now "$preload"
point "the preload hides its own names" preload_hides "$preload"
point "that of dmirror needs nothing but libc" \
	needs_only "$dmirror" 'libc\.so\.6|ld-linux.*'
point "that of dmirror binds when it is loaded" binds_now "$dmirror"
point "that of dmirror hides its own names" preload_hides "$dmirror"
point "manual pages" man_pages
point "the installed command runs a program" run_installed
[ "$number" = "$planned" ] || failed=1
exit "$failed"
