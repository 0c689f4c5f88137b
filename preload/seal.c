/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of ours that the program must not take away.
 *
 * There are programs that unmap whatever they find in /proc/self/maps and do not know.
 * Without us nothing happens, for nothing of it is used; but our threads use this library
 * and the control segment for as long as the process lives, and the process would end by
 * a SIGSEGV of theirs. So both are sealed: munmap(), mremap() and mprotect() of them fail
 * with EPERM, by whatever way they are called. Linux 6.10 has that; before it such
 * programs are not protected from themselves.
 *
 * Called when the process begins. Children of fork() have it too.
 */
#include "lib/os/sys.h"
#include "preload/preload.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

void preload_seal(void *start, size_t len)
{
	sys3(SYS_mseal, start, len, 0);
}
