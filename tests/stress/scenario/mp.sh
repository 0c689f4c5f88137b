# SPDX-License-Identifier: Apache-2.0
# Python processes that share a large parent by fork: a Pool, plain forks, children of
# children, parents that end first.
needs=/usr/bin/python3

run() {
	PYTHONHASHSEED=0 $WRAP /usr/bin/python3 "$SRC/scenario/mp.py" "$(pick 96 512)"
	status=$?
	cat orphan.txt
	return $status
}
