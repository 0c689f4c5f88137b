/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door: where the supervisor makes a thread of the program start one of ours; see
 * cmd/ring.c for its side.
 *
 * A thread of the program executes the first instruction of door_entry with the registers
 * of clone(CLONE_VM | CLONE_THREAD ...). It is stopped behind that and never gets to the
 * third. The new thread has all signals blocked and a stack of its own, but the thread
 * pointer of the other one, which may end and take that away: so first of all it gets a
 * block of zeros, as every hidden thread has one (lib/os/os_linux_thread.c). It may call
 * nothing of libc that needs more.
 *
 * There is one stack: who opens a door again has made sure that nobody is on it.
 */
#include "preload/preload.h"

#if defined(__x86_64__)

void door_entry(void);
__asm__(".text\n"
	".p2align 4\n"
	".hidden door_entry\n"
	".type door_entry, @function\n"
	"door_entry:\n"
	"	syscall\n"
	"	testq	%rax, %rax\n"
	"	jz	1f\n"
	"	ud2\n"
	"1:	xorl	%ebp, %ebp\n"
	"	leaq	door_tls(%rip), %rsi\n"
	"	movq	%rsi, (%rsi)\n"
	"	movq	%rsi, 16(%rsi)\n"
	"	movl	$0x1002, %edi\n" /* ARCH_SET_FS */
	"	movl	$158, %eax\n"    /* arch_prctl */
	"	syscall\n"
	"	call	door_main\n"
	"	xorl	%edi, %edi\n"
	"	movl	$60, %eax\n" /* exit */
	"	syscall\n"
	"	hlt\n"
	".size door_entry, .-door_entry\n");

__attribute__((used, visibility("hidden"))) uint64_t door_tls[32]
	__attribute__((aligned(64)));
static char door_stack[16 << 10] __attribute__((aligned(64)));

bool door_open(struct ctl_door *door, uint64_t claim)
{
	door->claim = claim;
	door->entry = (uintptr_t)door_entry;
	door->stack = (uintptr_t)(door_stack + sizeof(door_stack));
	__atomic_store_n(&door->magic, CTL_DOOR_MAGIC, __ATOMIC_RELEASE);
	return true;
}

#else

bool door_open(struct ctl_door *door, uint64_t claim)
{
	(void)door;
	(void)claim;
	return false;
}

#endif
