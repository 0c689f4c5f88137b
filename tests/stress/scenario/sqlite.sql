-- SPDX-License-Identifier: Apache-2.0
-- A table of @ROWS@ rows in memory. Numbers come from a linear congruential sequence, so
-- that every run does the same.
.bail on
PRAGMA temp_store = memory;
PRAGMA cache_size = -16;
CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, name TEXT, body TEXT, price INTEGER);
WITH RECURSIVE n(i, r) AS (
	SELECT 1, 12345
	UNION ALL
	SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < @ROWS@
)
INSERT INTO item
	SELECT i, r % 5003, 'item number ' || i || ' of owner ' || (r % 5003),
	       substr('the quick brown fox jumps over the lazy dog and comes back again for ',
		      1 + r % 20) || r || ' and then it sleeps until morning comes around',
	       r % 100000
	FROM n;
CREATE INDEX item_owner ON item (owner, price);
SELECT 'rows', count(*), sum(price) FROM item;

WITH RECURSIVE q(i, r) AS (
	SELECT 1, 777
	UNION ALL
	SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM q WHERE i < @ROWS@ / 2
)
SELECT 'points', count(*), sum(length(body)), sum(price) FROM q JOIN item ON id = 1 + r % @ROWS@;

SELECT 'by owner', sum(c), sum(m) FROM (
	SELECT count(*) AS c, max(price) AS m FROM item GROUP BY owner
);

WITH RECURSIVE q(i, r) AS (
	SELECT 1, 4242
	UNION ALL
	SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM q WHERE i < @ROWS@ / 20
)
UPDATE item SET price = price + 1, body = body || ' (changed)'
	WHERE id IN (SELECT 1 + r % @ROWS@ FROM q);
DELETE FROM item WHERE id % 17 = 3;
SELECT 'changed', count(*), sum(price), sum(length(body)), sum(length(name)) FROM item;
SELECT 'last', id, name, body FROM item WHERE owner = 4711 ORDER BY price DESC, id LIMIT 3;
PRAGMA integrity_check;
