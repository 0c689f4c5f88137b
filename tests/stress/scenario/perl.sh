# SPDX-License-Identifier: Apache-2.0
# Perl: a hash of strings and arrays, built, read at random, changed, sorted.
needs=/usr/bin/perl

# Compressed, all of it still takes 41% of its peak, and it is read in no order.
: "${percent:=80}"

run() {
	PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0 \
		$WRAP /usr/bin/perl "$SRC/scenario/table.pl" "$(pick 200000 1200000)" \
		"$(often 200000 1200000)"
}
