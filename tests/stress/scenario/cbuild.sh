# SPDX-License-Identifier: Apache-2.0
# make -j2 of a generated program in C: fork and exec trees, two compilers at a time that
# take some 70 MiB each; objects and the program's output are compared.
needs="/usr/bin/make /usr/bin/gcc /usr/bin/python3"

prepare() {
	/usr/bin/python3 "$SRC/scenario/cbuild.py" "$(pick 3 24)" "$(pick 330 900)" tree
}

run() {
	cp -r "$INPUT/tree" tree
	status=0
	$WRAP make -s -j2 -C tree || status=$?
	(cd tree && sha256sum *.o prog && ./prog)
	rm -rf tree
	return $status
}
