# SPDX-License-Identifier: Apache-2.0
# Node: a Map of objects and a set of Buffers; V8's collector and compiler threads.
needs=/usr/bin/node

# Half its peak is too little: compressed, all of it still takes 35 to 40%.
: "${percent:=65}"

run() {
	$WRAP /usr/bin/node "$SRC/scenario/table.js" "$(pick 200000 1200000)"
}
