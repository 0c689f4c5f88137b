#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scripts/demo.sh BUILD: what uhmm is for, in a minute.
#
# Sorts a text in memory, first as it is, then under `uhmm run` with half of the memory
# that it took, and compares the two outputs. The text is what this machine has: the
# words of its headers, licences, Python and documents, repeated until there are enough
# of them. Exit status 0 if and only if the outputs are the same and the budget was held.
set -euo pipefail

uhmm=$1/uhmm
: "${DEMO_MEGABYTES:=256}"
[ -x "$uhmm" ] || { echo "demo: $uhmm is not there; run make first" >&2; exit 2; }
tmp=$(mktemp -d "${TMPDIR:-/tmp}/uhmm-demo.XXXXXXXX")
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C

# Says what to do about it where uhmm cannot work.
if ! "$uhmm" doctor >"$tmp/doctor" 2>&1; then
	cat "$tmp/doctor"
	exit 1
fi

say()
{
	printf '%s\n' "$*"
}

# Lines of text, each with a number in front that scatters them, so that sorting has
# something to do.
make_text()
{
	local bytes=$((DEMO_MEGABYTES * 1024 * 1024)) folder folders=()

	for folder in /usr/include /usr/share/common-licenses /usr/lib/python3 \
		/usr/share/perl /usr/share/doc; do
		[ ! -d "$folder" ] || folders+=("$folder")
	done
	find "${folders[@]}" -type f \( -name '*.h' -o -name '*.py' -o -name '*.p[lm]' \
		-o -name 'copyright' -o -path '*/common-licenses/*' \) -print0 | sort -z |
		xargs -0 cat | tr -cd '\n\t -~' >"$tmp/words"
	# Ends when nobody wants more.
	while cat "$tmp/words"; do
		:
	done | awk '{ x = (x * 16807 + NR) % 2147483647; printf "%08x %s\n", x, $0 }' |
		head -c "$bytes" >"$tmp/text"
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
job=(sort --parallel=1 -S 4G "$tmp/text")
say "Sorting $DEMO_MEGABYTES MiB of text, $(wc -l <"$tmp/text") lines, in memory:"
say "    sort -S 4G text"
run plain python3 -c "$peak_of_child" "$tmp/plain.peak" "${job[@]}"
plain_kib=$(cat "$tmp/plain.peak")
budget_mib=$((plain_kib / 2 / 1024))
say "and again in half of the memory that it took:"
say "    uhmm run --memory ${budget_mib}M --device lz4 -- sort -S 4G text"
say ""
run uhmm "$uhmm" run --memory "${budget_mib}M" --device lz4 --stats=json:"$tmp/stats" \
	-- "${job[@]}"

number()
{
	python3 -c 'import json, sys; print(int(json.load(open(sys.argv[1]))[sys.argv[2]]))' \
		"$tmp/stats" "$1"
}
peak_kib=$(($(number peak_bytes) / 1024))
allowed_kib=$((($(number budget_bytes) + $(number tolerance_bytes)) / 1024))

printf '    %-12s %12s %10s   %s\n' '' 'peak memory' seconds output
printf '    %-12s %8d MiB %10s   %s\n' \
	'alone' $((plain_kib / 1024)) "$(cat "$tmp/plain.seconds")" "$(cat "$tmp/plain.sum")" \
	'under uhmm' $((peak_kib / 1024)) "$(cat "$tmp/uhmm.seconds")" "$(cat "$tmp/uhmm.sum")"
say ""
say "$(number to_device_bytes | awk '{ printf "%d", $1 / 1048576 }') MiB went to the" \
	"device, $(number from_device_bytes | awk '{ printf "%d", $1 / 1048576 }') MiB came back."

status=0
if [ "$(cat "$tmp/plain.sum")" = "$(cat "$tmp/uhmm.sum")" ]; then
	say "The outputs are the same."
else
	say "THE OUTPUTS DIFFER."
	status=1
fi
if [ "$peak_kib" -gt "$allowed_kib" ]; then
	say "The budget of $budget_mib MiB (and $((allowed_kib / 1024 - budget_mib)) MiB of" \
		"tolerance) was exceeded."
	status=1
fi
exit "$status"
