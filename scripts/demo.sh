#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/demo.sh BUILD: what uhmm is for, in a minute.
#
# Runs a Python program that keeps a text in a dict and answers queries about it, first
# as it is, then under `uhmm run` with half of the memory that it took, and compares the
# two outputs. The text is what this machine has: its headers, licences and Python,
# repeated until there is enough. Exit status 0 if and only if the outputs are the same
# and the budget was held.
set -euo pipefail

uhmm=${1:?usage: demo.sh BUILD}/uhmm
program=$(dirname "$0")/demo-table.py
: "${DEMO_MEGABYTES:=64}"
[ -x "$uhmm" ] || { echo "demo: $uhmm is not there; run make first" >&2; exit 2; }
tmp=$(mktemp -d "${TMPDIR:-/tmp}/uhmm-demo.XXXXXXXX")
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C

# Where uhmm cannot work for this user it may for root; else doctor says what to do.
if ! "$uhmm" doctor >"$tmp/doctor" 2>&1; then
	if [ "$(id -u)" -ne 0 ] &&
	   { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo true; }; }; then
		echo "demo: uhmm run needs root here (see uhmm doctor): through sudo"
		rm -rf "$tmp"
		exec sudo "$0" "$@"
	fi
	cat "$tmp/doctor"
	exit 1
fi

say()
{
	printf '%s\n' "$*"
}

make_text()
{
	local folder folders=()

	for folder in /usr/include /usr/share/common-licenses /usr/lib/python3 \
		/usr/share/perl /usr/share/doc; do
		[ ! -d "$folder" ] || folders+=("$folder")
	done
	find "${folders[@]}" -type f \( -name '*.h' -o -name '*.py' -o -name '*.p[lm]' \
		-o -name 'copyright' -o -path '*/common-licenses/*' \) -print0 | sort -z |
		xargs -0 cat >"$tmp/all"
	# Ends when nobody wants more.
	while cat "$tmp/all"; do
		:
	done | head -c $((DEMO_MEGABYTES * 1024 * 1024)) >"$tmp/text"
	rm "$tmp/all"
}

# run NAME COMMAND...: peak in KiB and seconds to $tmp/NAME.*, output's checksum too.
run()
{
	local name=$1 start end

	shift
	start=$(date +%s%N)
	"$@" >"$tmp/out"
	end=$(date +%s%N)
	awk "BEGIN { printf \"%.1f\", ($end - $start) / 1e9 }" >"$tmp/$name.seconds"
	sha256sum <"$tmp/out" | cut -c 1-16 >"$tmp/$name.sum"
	rm "$tmp/out"
}

# The job's own peak, as the kernel counted it: anonymous memory, sampled.
peak_of_child='
import os, re, sys, time
pid = os.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
peak = 0
while os.waitpid(pid, os.WNOHANG)[0] == 0:
    try:
        with open("/proc/%d/status" % pid) as f:
            found = re.search(r"RssAnon:\s*(\d+)", f.read())
        peak = max(peak, int(found[1]) if found else 0)
    except OSError:
        pass
    time.sleep(0.005)
open(sys.argv[1], "w").write(str(peak))
'

(make_text || true) 2>/dev/null
[ -s "$tmp/text" ] || { echo "demo: found no text on this machine" >&2; exit 2; }
# The interpreter itself, should python3 be a script that looks for it.
python3=$(python3 -c 'import sys; print(sys.executable)')
job=("$python3" "$program" "$tmp/text")
say "A program keeps $DEMO_MEGABYTES MiB of text in a dict and answers queries about it:"
say "    python3 demo-table.py text"
run plain python3 -c "$peak_of_child" "$tmp/plain.peak" "${job[@]}"
plain_kib=$(cat "$tmp/plain.peak")
budget_mib=$((plain_kib / 2 / 1024))
say "and again in half of the memory that it took:"
say "    uhmm run --memory ${budget_mib}M --device lz4 -- python3 demo-table.py text"
say ""
run uhmm "$uhmm" run --memory "${budget_mib}M" --device lz4 --stats=json:"$tmp/stats" \
	-- "${job[@]}"

# One number of the summary, divided.
number()
{
	python3 -c 'import json, sys
print(int(json.load(open(sys.argv[1]))[sys.argv[2]]) // int(sys.argv[3]))' \
		"$tmp/stats" "$1" "$2"
}

row()
{
	printf '    %-12s %8d MiB %10s   %s\n' "$1" "$2" \
		"$(cat "$tmp/$3.seconds")" "$(cat "$tmp/$3.sum")"
}

mib=1048576
peak_mib=$(number peak_bytes $mib)
tolerance_mib=$(number tolerance_bytes $mib)
printf '    %-12s %12s %10s   %s\n' '' 'peak memory' seconds output
row alone $((plain_kib / 1024)) plain
row 'under uhmm' "$peak_mib" uhmm
say ""
say "$(number to_device_bytes $mib) MiB went to the device," \
	"$(number from_device_bytes $mib) MiB came back."

status=0
if [ "$(cat "$tmp/plain.sum")" = "$(cat "$tmp/uhmm.sum")" ]; then
	say "The outputs are the same."
else
	say "THE OUTPUTS DIFFER."
	status=1
fi
if [ "$peak_mib" -gt $((budget_mib + tolerance_mib)) ]; then
	say "The budget of $budget_mib MiB (and $tolerance_mib MiB of tolerance) was" \
		"exceeded."
	status=1
fi
exit "$status"
