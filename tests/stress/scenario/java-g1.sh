# SPDX-License-Identifier: Apache-2.0
# Java again, with the parallel, concurrent collector G1 that servers use.
. "$SRC/scenario/java.sh"
collector=-XX:+UseG1GC
