# SPDX-License-Identifier: Apache-2.0
# redis-server (jemalloc, background threads): filled, read back key by key and changed
# while it saves, read by redis-benchmark while it saves; a second server, which is not
# under test, loads what was saved. See redis.py.
# redis-check-rdb is the server under another name, in a package that starts no service.
needs="/usr/bin/redis-check-rdb /usr/bin/redis-benchmark /usr/bin/python3"

run() {
	ln -s /usr/bin/redis-check-rdb redis-server
	/usr/bin/python3 "$SRC/scenario/redis.py" "$(pick 70000 500000)" $WRAP
}
