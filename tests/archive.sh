# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Of what is fetched from Debian when it is run; sourced.

# Where Debian's packages come from here, as apt knows it, and of which release they are:
# "URI RELEASE", or nothing.
archive()
{
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE)' \
		'Created-By: Packages' |
		sed -n 's/^Debian \(.*\/debian\/ [a-z]*\)$/\1/p' | head -n 1
}

# Does what apt wrote to LOG say so? Its last word is of the archive then too.
disk_is_full()
{
	grep -q 'No space left' "$1"
}
