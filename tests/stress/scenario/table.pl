# SPDX-License-Identifier: Apache-2.0
# table.pl N [READS]: a hash of N entries, N times read. Prints checksums.
use strict;
use warnings;
use integer;

my $nr = shift;
my $reads = shift // $nr;
my (%table, $sum);
my $state = 12345;

sub draw {
	$state = ($state * 1103515245 + 12345) & 0x7fffffff;
	return ($state >> 8) % shift;
}

# Most draws are of a tenth, as in most tables.
sub pick {
	return draw(draw(16) ? $nr / 10 : $nr);
}

$table{"key-$_"} = [$_, "value $_ of $nr", [1 .. $_ % 8]] for 0 .. $nr - 1;
print "entries ", scalar(keys %table), "\n";

$sum = 0;
for (1 .. $reads) {
	my $entry = $table{"key-" . pick()};
	$sum = ($sum * 31 + $entry->[0] + length($entry->[1]) + @{$entry->[2]}) & 0xffffffff;
}
print "random reads $sum\n";

for (1 .. $reads / 4) {
	my $key = "key-" . pick();
	if (draw(2)) { delete $table{$key} }
	else { $table{$key} = [draw($nr), "changed $key" x 2, []] }
}
print "entries ", scalar(keys %table), "\n";

$sum = 0;
for my $key (sort grep { /[37]$/ } keys %table) {
	$sum = ($sum * 31 + $table{$key}[0] + unpack("%32C*", $table{$key}[1])) & 0xffffffff;
}
print "sorted $sum\n";
