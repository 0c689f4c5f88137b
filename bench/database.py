# SPDX-License-Identifier: Apache-2.0
"""database.py oltp|scan ROWS NUMBER: sqlite3 with a database in memory.

A table with an index, as sysbench's OLTP has it. oltp: NUMBER transactions of ten rows
looked up, a range of twenty summed, two rows updated, one of them in the index, and one
deleted and inserted anew, wherever chance has it; they are committed by the thousand.
scan: NUMBER times over all rows in three ways. Seeded; see phases.py for what it prints.
"""
import random
import sqlite3
import sys
import zlib

TABLE = """CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER NOT NULL,
                           c TEXT NOT NULL, pad TEXT NOT NULL)"""
# Transactions that are committed together: a database in memory has no page that is not
# dirty, and a commit walks over all that are. That alone would be measured otherwise.
COMMIT = 1000
SCANS = ["SELECT count(*), sum(k), sum(length(c) + length(pad)) FROM t",
         "SELECT k % 7, count(*), min(c), max(pad) FROM t GROUP BY k % 7",
         "SELECT count(*), sum(id) FROM t WHERE c LIKE '%zoren%' OR pad LIKE '%benba%'"]


def phase(name):
    """Tells that it begins."""
    print("phase", name, flush=True)


class Texts:
    """Of 400 words, so that a page of them compresses as what people write does."""

    def __init__(self, choose):
        syllables = [a + b for a in "bdfghklmnprstvz" for b in ("a", "en", "i", "or")]
        self.choose = choose
        self.words = ["".join(choose.choices(syllables, k=choose.randint(2, 4)))
                      for _ in range(400)]

    def make(self, length):
        """One."""
        return " ".join(self.choose.choices(self.words, k=length // 4))[:length]


def rows(number, choose, texts):
    """Of the table."""
    # Made once: to make a text for each row would take most of the time.
    c = [texts.make(120) for _ in range(4096)]
    pad = [texts.make(60) for _ in range(4096)]
    for i in range(number):
        yield (i, choose.randrange(number), f"{i:08}{choose.choice(c)}",
               choose.choice(pad))


class Results:
    """A checksum of all that was selected."""

    def __init__(self):
        self.sum = 0

    def add(self, cursor):
        """All rows that a statement brings."""
        for row in cursor:
            self.sum = zlib.crc32(repr(row).encode(), self.sum)


def transaction(database, number, choose, texts, results):
    """As sysbench's."""
    def anybody():
        return choose.randrange(number)
    for _ in range(10):
        results.add(database.execute("SELECT c FROM t WHERE id = ?", (anybody(),)))
    first = anybody()
    results.add(database.execute("SELECT sum(k) FROM t WHERE id BETWEEN ? AND ?",
                                 (first, first + 19)))
    database.execute("UPDATE t SET k = ? WHERE id = ?", (anybody(), anybody()))
    database.execute("UPDATE t SET c = ? WHERE id = ?", (texts.make(120), anybody()))
    which = anybody()
    database.execute("DELETE FROM t WHERE id = ?", (which,))
    database.execute("INSERT INTO t VALUES (?, ?, ?, ?)",
                     (which, anybody(), texts.make(120), texts.make(60)))


def main():
    """See the head of the file."""
    what, number, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    choose, results = random.Random(1), Results()
    texts = Texts(choose)
    database = sqlite3.connect(":memory:")
    phase("fill")
    with database:
        database.execute(TABLE)
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)",
                             rows(number, choose, texts))
        database.execute("CREATE INDEX by_k ON t (k)")
    phase("run")
    for n in range(times):
        if what == "oltp":
            transaction(database, number, choose, texts, results)
            if n % COMMIT == COMMIT - 1:
                database.commit()
        else:
            for statement in SCANS:
                results.add(database.execute(statement))
    database.commit()
    phase("verify")
    results.add(database.execute("PRAGMA integrity_check"))
    results.add(database.execute("SELECT count(*), sum(k), max(c), min(pad) FROM t"))
    phase("end")
    print("checksum", f"{results.sum:08x}", flush=True)


if __name__ == "__main__":
    main()
