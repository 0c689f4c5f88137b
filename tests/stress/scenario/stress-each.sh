# SPDX-License-Identifier: Apache-2.0
# stress-each.sh SECONDS BYTES METHOD...: stress-ng --vm with each method.
seconds=$1 bytes=$2
shift 2
for method; do
	stress-ng -q --verify --timeout "${seconds}s" --vm 1 --vm-bytes "$bytes" \
		--vm-method "$method" || exit
	echo "$method verified"
done
