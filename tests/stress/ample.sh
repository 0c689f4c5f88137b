#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ample.sh [--uhmm PATH] [--bin DIR] [--rounds N] [--size small|full] [--limit RATIO]
#          [--tap]
#
# What uhmm costs a program whose budget is larger than it needs. Each program runs plain
# and under uhmm in turn, N times, A B A B, so that whatever else the machine does hits
# both alike; the median of the ratios of neighbouring runs is printed, with the spread of
# plain runs against each other (A to the A before), which is the noise. Their output must
# be the same. Without --limit nothing is judged by time: machines are shared.
usage() {
	sed -n '3,4s/^# //p' "$0" >&2
	exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
build=${UHMM_BUILD:-$(cd "$here/../.." && pwd)/build}
uhmm=$build/uhmm bin= rounds= size=small limit= tap=
while [ $# -gt 0 ]; do
	case $1 in
	--tap) tap=1; shift; continue ;;
	--uhmm) uhmm=$2 ;;
	--bin) bin=$2 ;;
	--rounds) rounds=$2 ;;
	--size) size=$2 ;;
	--limit) limit=$2 ;;
	*) usage ;;
	esac
	[ $# -ge 2 ] || usage
	shift 2
done
: "${bin:=$(dirname "$uhmm")/tests/stress}"
: "${rounds:=$([ "$size" = full ] && echo 15 || echo 5)}"
if [ -n "$tap" ]; then
	echo "1..1"
	if [ "${UHMM_SANITIZED:-0}" = 1 ]; then
		echo "ok 1 - ample budget # SKIP not with a sanitizer"
		exit 0
	fi
fi
work=$(mktemp -d "${TMPDIR:-/var/tmp}/uhmm-ample.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT

pick() {
	[ "$size" = full ] && echo "$2" || echo "$1"
}

say() {
	[ -n "$tap" ] && echo "# $*" || echo "$*"
}

# Of numbers on stdin, one a line.
median() {
	sort -n | awk '{ v[NR] = $1 }
		END { printf("%.3f", (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2) }'
}

# Tenths of a millisecond of wall time; output in FILE.
timed() {
	file=$1
	shift
	begin=$(date +%s%N)
	"$@" >"$file" 2>&1 || echo "status $?" >>"$file"
	end=$(date +%s%N)
	echo $(((end - begin) / 100000))
}

failed=
# compare NAME PROGRAM...
compare() {
	name=$1
	shift
	: >"$work/pairs"
	last=
	"$@" >/dev/null 2>&1 # warms the page cache
	for _ in $(seq "$rounds"); do
		a=$(timed "$work/a" "$@")
		b=$(timed "$work/b" "$uhmm" run --memory 4G --device lz4 -- "$@")
		cmp -s "$work/a" "$work/b" || {
			failed="$failed $name: output differs;"
			sed 's/^/  under uhmm: /' "$work/b" | head -n 5 >&2
		}
		echo "$a $b ${last:-$a}" >>"$work/pairs"
		last=$a
	done
	ratio=$(awk '{ print $2 / $1 }' "$work/pairs" | median)
	noise=$(awk '{ r = $1 / $3; print(r < 1 ? 1 / r : r) }' "$work/pairs" | median)
	say "$name $ratio (plain against plain $noise, $rounds rounds of" \
		"$(awk '{ s += $1 } END { printf("%d", s / NR / 10) }' "$work/pairs") ms)"
	[ -n "$limit" ] || return 0
	awk "BEGIN { exit !($ratio <= $limit) }" || failed="$failed $name: $ratio;"
}

compare malloc "$bin/mallocs" -t 2 -m 128 -n "$(pick 120000 400000)"
compare mmap "$bin/storm" -t 2 -m "$(pick 256 1024)" -r "$(pick 4 8)" -c
compare remap "$bin/grow" -m "$(pick 160 512)" -r "$(pick 3 6)"
compare spawn "$bin/spawns" -n "$(pick 600 3000)" -m 16
compare shell sh -c \
	"i=0; while [ \$i -lt $(pick 300 1500) ]; do /bin/true; i=\$((i + 1)); done"
compare compute awk "BEGIN { for (i = 0; i < $(pick 8000000 40000000); i++) s += i % 7;
	print s }"
[ -x /usr/bin/python3 ] &&
	compare python /usr/bin/python3 "$here/scenario/cpython.py" \
		"$(pick 200000 1000000)"

if [ -n "$failed" ]; then
	[ -n "$tap" ] && echo "not ok 1 - ample budget:$failed" || echo "FAIL$failed"
	exit 1
fi
[ -z "$tap" ] || echo "ok 1 - ample budget: same output, ratios above"
