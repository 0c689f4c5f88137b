# SPDX-License-Identifier: Apache-2.0
# Java, serial collector: a HashMap; safepoints, mprotect, signal handlers, many threads.
needs="/usr/bin/java /usr/bin/javac"
collector=-XX:+UseSerialGC

prepare() {
	javac -d . "$SRC/scenario/Table.java"
}

# Half its peak is too little: compressed, all of it still takes 35 to 40%.
: "${percent:=65}"

run() {
	$WRAP /usr/bin/java $collector -Xms"$(pick 96 512)m" -Xmx"$(pick 192 900)m" \
		-XX:-UsePerfData -cp "$INPUT" Table "$(pick 250000 1500000)"
}
