# SPDX-License-Identifier: Apache-2.0
# Python processes that share a large parent by fork: a Pool, plain forks, children of
# children, parents that end first.
#
# From 3.12 on Python warns when a process that forks has threads, and counts uhmm's, of
# which it knows from /proc/self/stat. CHANGELOG names that; here it would be the only
# difference.
needs=/usr/bin/python3

run() {
	export PYTHONWARNINGS='ignore:This process:DeprecationWarning'
	PYTHONHASHSEED=0 $WRAP /usr/bin/python3 "$SRC/scenario/mp.py" "$(pick 96 512)"
	status=$?
	cat orphan.txt
	return $status
}
