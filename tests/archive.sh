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

# Is that why it failed? What apt wrote to LOG says so, or nothing can be written there.
disk_is_full()
{
	local is=1

	if grep -q 'No space left' "$1" ||
		! head -c 65536 /dev/zero 2>/dev/null >"$1.room"; then
		is=0
	fi
	rm -f "$1.room"
	return $is
}
