#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run-one.sh: one real program as a judge.
#
# Runs the scenario plain and measures the peak of its process tree; then again under
# `uhmm run` with a part of that peak as its budget. The second run must print the same,
# end with the same status, say nothing on stderr that the first did not (lines of uhmm's
# own aside), leave no process behind, and stay within the budget and its tolerance. The
# budget must be below what the program takes when left alone, tolerance included: else
# the comparison would prove nothing, and is a failure. Where the budget is exceeded, and
# a processor of the machine stood still just before that, nobody could have held it: that
# is told, and the scenario counts as skipped.
#
# A scenario is a file scenario/NAME.sh, sourced here. It may set needs (files that must
# exist), percent and budget, define prepare (once, in $INPUT), and defines run (in an
# empty directory), which puts $WRAP before the program to be judged and returns its
# status. budget=told: the contents cannot be compressed enough; over the budget is
# accepted if uhmm says so on stderr. pick SMALL FULL prints one of the two, and so does
# often SMALL FULL of how often something is done, less on a slow machine.
usage() {
	cat <<'END'
usage: run-one.sh NAME [OPTION VALUE]... [--tap] [--keep]
  --size small|full  small takes some seconds (default small)
  --percent N        budget, in percent of the plain peak (default 50)
  --memory SIZE      budget in MiB, instead
  --uhmm PATH        the command to test (default build/uhmm); none: plain twice
  --bin DIR          treerss and the test programs (default: tests/stress beside uhmm)
  --device SPEC      default lz4
  --faults WHO       thread, inline or either; default: what uhmm run does
  --as USER          both runs without privilege, as that user (needs root)
  --seed N           for the programs that take one (default 1)
  --plain DIR        keep the plain run there, and use it again next time
  --timeout SECONDS  for each run (default 120, full 1800; more on a slow machine)
  --tap              one TAP test instead of a line
  --keep             keep the logs of a passing run too
exit status: 0 pass, 1 fail, 77 skip, 2 usage
END
	exit 2
}

SRC=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$SRC/../.." && pwd)
[ $# -ge 1 ] || usage
name=$1
shift
size=small percent= memory= uhmm=$root/build/uhmm BIN= device=lz4 SEED=1 plain=
faults= as= limit_s= tap= keep=
while [ $# -gt 0 ]; do
	case $1 in
	--tap) tap=1; shift; continue ;;
	--keep) keep=1; shift; continue ;;
	esac
	[ $# -ge 2 ] || usage
	case $1 in
	--size) size=$2 ;;
	--percent) percent=$2 ;;
	--memory) memory=${2%M} ;;
	--uhmm) uhmm=$2 ;;
	--bin) BIN=$2 ;;
	--device) device=$2 ;;
	--faults) faults=$2 ;;
	--as) as=$2 ;;
	--seed) SEED=$2 ;;
	--plain) plain=$2 ;;
	--timeout) limit_s=$2 ;;
	*) usage ;;
	esac
	shift 2
done
case $size in small|full) ;; *) usage ;; esac
[ -f "$SRC/scenario/$name.sh" ] || { echo "run-one.sh: no scenario $name" >&2; exit 2; }
case $uhmm in none|/*) ;; *) uhmm=$PWD/$uhmm ;; esac
: "${BIN:=$(dirname "$uhmm")/tests/stress}"
BIN=$(cd "$BIN" 2>/dev/null && pwd) || {
	echo "run-one.sh: no directory for --bin" >&2
	exit 2
}
pace=$("$BIN/pace")
: "${limit_s:=$(($([ $size = full ] && echo 1800 || echo 120) * pace))}"

pick() {
	[ "$size" = full ] && echo "$2" || echo "$1"
}

# How often something is done, of as much memory: less on a slow machine, if it is small.
often() {
	[ "$size" = full ] && echo "$2" || echo $((($1 + pace - 1) / pace))
}

# result STATUS WORD TEXT: the one line, and the end.
result() {
	if [ -n "$tap" ]; then
		echo "1..1"
		case $1 in
		0) echo "ok 1 - $name: $3" ;;
		77) echo "ok 1 - $name # SKIP $3" ;;
		*) echo "not ok 1 - $name: $3" ;;
		esac
		[ "$1" = 77 ] && set -- 0
	else
		echo "$2 $name $3"
	fi
	exit "$1"
}

needs= budget=held
. "$SRC/scenario/$name.sh"
for file in $needs; do
	[ -e "$file" ] || result 77 SKIP "needs $file"
done
[ "$uhmm" = none ] || [ -x "$uhmm" ] || { echo "run-one.sh: no $uhmm" >&2; exit 2; }
: "${percent:=50}"

# Who runs without privilege has to write there.
[ -z "$as" ] || umask 0
work=$(mktemp -d "${TMPDIR:-/var/tmp}/uhmm-$name.XXXXXX") || exit 2
INPUT=${plain:-$work}/input-$name-$size
first=${plain:-$work}/plain-$name-$size-$SEED
second=$work/second
[ -d "$second" ] || mkdir "$second"

# And come to all that is run.
if [ -n "$as" ]; then
	as="setpriv --reuid $(id -u "$as") --regid $(id -g "$as") --clear-groups"
	as="$as --inh-caps=-all --bounding-set=-all"
	chmod 755 "$work"
	for file in "$uhmm" "$BIN" "$SRC"; do
		[ "$uhmm" = none ] || $as test -x "$file" ||
			result 77 SKIP "$file cannot be reached without privilege"
	done
fi

# Numbers from a results file.
field() {
	sed -n "s/^$2=//p" "$1/results"
}

# run_in DIR COMMAND...: the scenario there, with COMMAND before the program.
run_in() {
	dir=$1
	shift
	mkdir -p "$dir/cwd"
	WRAP="$BIN/treerss -t $limit_s -g 60 -o $dir/results -l $dir/samples -- $as $*"
	(
		cd "$dir/cwd" || exit 125
		run
	) >"$dir/stdout" 2>"$dir/stderr" </dev/null
	echo $? >"$dir/status"
	rm -rf "$dir/cwd"
	[ -s "$dir/results" ] || echo "wall_ms=0" >"$dir/results"
}

if [ ! -s "$first/status" ]; then
	rm -rf "$first" "$INPUT"
	mkdir -p "$first" "$INPUT"
	if command -v prepare >/dev/null; then
		(cd "$INPUT" && prepare) >"$first/prepare" 2>&1 ||
			result 1 FAIL "prepare failed, see $first/prepare"
	fi
	run_in "$first"
fi
peak=$(field "$first" peak_pss_anon_kb)
: "${memory:=$((${peak:-0} * percent / 100 / 1024))}"
tolerance=$((memory / 20 > 16 ? memory / 20 : 16))
allowed=$(((memory + tolerance) * 1024))

if [ "$uhmm" = none ]; then
	run_in "$second"
else
	run_in "$second" "$uhmm run --memory ${memory}M --device $device" \
		"${faults:+--faults $faults} --stats=json:$second/stats.json --"
fi

# What is wrong, most telling first.
bad= stall_min_ms=15 stood=
wrong() {
	bad="${bad:+$bad; }$*"
}
[ "$(cat "$first/status")" = 0 ] || wrong "plain run ended with $(cat "$first/status")"
[ "$(field "$second" timed_out)" = 0 ] ||
	wrong "no end after $limit_s s (results.hang says where)"
[ "$(cat "$first/status")" = "$(cat "$second/status")" ] &&
	[ "$(field "$first" exit)" = "$(field "$second" exit)" ] ||
	wrong "status $(cat "$second/status") instead of $(cat "$first/status")"
cmp -s "$first/stdout" "$second/stdout" || wrong "stdout differs"
for dir in "$first" "$second"; do
	grep -v -e '^uhmm' -e '^thread [0-9]*: [0-9]* signals' "$dir/stderr" |
		sort -u >"$dir/stderr.cmp"
done
cmp -s "$first/stderr.cmp" "$second/stderr.cmp" || wrong "stderr differs"
[ "$(field "$second" left)" = "$(field "$first" left)" ] ||
	wrong "$(field "$second" left) processes left behind"
observed=$(field "$second" peak_pss_anon_kb)
: "${observed:=0}"
if [ "$uhmm" != none ]; then
	[ "${peak:-0}" -gt $allowed ] ||
		wrong "peak within the tolerance of the budget: proves nothing"
	if [ "$observed" -gt $allowed ]; then
		over=$(((observed - allowed) / 1024))
		stall=$(field "$second" stall_ms)
		if [ $budget = held ] && [ "${stall:-0}" -ge $stall_min_ms ]; then
			stood="a processor stood still for $stall ms, and the budget"
			stood="$stood was exceeded by ${over}M"
		elif [ $budget = held ]; then
			wrong "budget exceeded by ${over}M beyond the tolerance"
		elif ! grep -q '^uhmm' "$second/stderr"; then
			wrong "over the tolerance by ${over}M and uhmm did not say so"
		fi
	fi
fi

# ratio A B: A/B with two digits
ratio() {
	echo "$1 $2" | awk '{ printf("%.2fx", $2 > 0 ? $1 / $2 : 0) }'
}
cpu() {
	echo $(($(field "$1" user_ms) + $(field "$1" sys_ms)))
}
line="peak $((${peak:-0} / 1024))M budget ${memory}M observed $((observed / 1024))M"
line="$line (rss $(($(field "$second" peak_rss_anon_kb) / 1024))M)"
line="$line wall $(ratio "$(field "$second" wall_ms)" "$(field "$first" wall_ms)")"
line="$line cpu $(ratio "$(cpu "$second")" "$(cpu "$first")")"
line="$line of $(field "$first" wall_ms)ms"
[ $budget = told ] && line="$line (budget told)"
if [ -n "$bad" ]; then
	[ -z "$plain" ] || { cp -r "$first" "$work/plain" 2>/dev/null; }
	result 1 FAIL "$line: $bad; logs in $work"
fi
[ -z "$stood" ] || { rm -rf "$work"; result 77 SKIP "$line: $stood"; }
[ -n "$keep" ] && line="$line; logs in $work" || rm -rf "$work"
result 0 PASS "$line"
