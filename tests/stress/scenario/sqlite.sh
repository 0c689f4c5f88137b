# SPDX-License-Identifier: Apache-2.0
# sqlite3 with a database in memory: filled, indexed, read and changed at random, scanned.
needs=/usr/bin/sqlite3

run() {
	rows=$(pick 250000 1500000)
	sed "s/@ROWS@/$rows/g" "$SRC/scenario/sqlite.sql" >script.sql
	$WRAP sqlite3 :memory: ".read script.sql"
}
