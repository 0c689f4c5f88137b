/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's threads are coroutines, each on a stack of its own at an address
 * that depends on nothing but its number. AddressSanitizer and ThreadSanitizer are told
 * of every switch. A host has no stack of ours: it is who called sim_run().
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/sim/world.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static const char *host_stack;
static size_t host_stack_size;
#endif
#ifdef SIM_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* At fixed addresses: the library tells threads apart by where their stacks are. */
#ifdef SIM_TSAN
#define STACK_BASE 0xc00000000ul
#else
#define STACK_BASE 0x1f0000000000ul
#endif
#define STACK_SIZE ((size_t)512 << 10)

#if defined(__x86_64__)
/* Saves what a function must keep and the stack pointer, and takes up the other's. */
void sim_switch(void **from, void *to);
__asm__(".text\n"
	".p2align 4\n"
	".hidden sim_switch\n"
	".type sim_switch, @function\n"
	"sim_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n"
	"	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n"
	"	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size sim_switch, .-sim_switch\n");

static void stack_prepare(struct thread *t, void (*entry)(void))
{
	void **top = (void **)((char *)t->stack + STACK_SIZE);

	*--top = NULL;          /* what entry() would return to: it does not */
	*--top = (void *)entry; /* 16 bytes aligned, less the return address */
	top -= 6;
	memset(top, 0, 6 * sizeof(*top));
	t->sp = top;
}

static void host_prepare(struct thread *host)
{
	host->sp = NULL; /* until it is switched from */
}
#else
#include <ucontext.h>

/* Where a thread's registers are: of a coroutine at the top of its stack. */
static void sim_switch(void **from, void *to)
{
	swapcontext(*from, to);
}

static void stack_prepare(struct thread *t, void (*entry)(void))
{
	size_t size = STACK_SIZE - ((sizeof(ucontext_t) + 63) & ~(size_t)63);
	ucontext_t *c = (ucontext_t *)((char *)t->stack + size);

	getcontext(c);
	c->uc_stack.ss_sp = t->stack;
	c->uc_stack.ss_size = size;
	c->uc_link = NULL;
	makecontext(c, entry, 0);
	t->sp = c;
}

static void host_prepare(struct thread *host)
{
	static ucontext_t context;

	host->sp = &context;
}
#endif

void coroutine_make(struct thread *t, unsigned slot, void (*entry)(void))
{
	if (!t->stack) {
		void *at = (void *)(STACK_BASE + slot * 2 * STACK_SIZE);
		char *p = mmap(at, STACK_SIZE + SIM_PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				       MAP_FIXED_NOREPLACE,
			       -1, 0);

		if (p != at || mprotect(p, SIM_PAGE, PROT_NONE))
			sim_fail("the host has no memory for stacks");
		t->stack = p + SIM_PAGE;
	}
#ifdef SIM_ASAN
	/* Whoever had it before never returned from its first functions. */
	__asan_unpoison_memory_region(t->stack, STACK_SIZE);
#endif
#ifdef SIM_TSAN
	if (t->fiber)
		__tsan_destroy_fiber(t->fiber);
	t->fiber = __tsan_create_fiber(0);
#endif
	stack_prepare(t, entry);
}

void coroutine_host(struct thread *host)
{
#ifdef SIM_TSAN
	host->fiber = __tsan_get_current_fiber();
#endif
	host_prepare(host);
}

void coroutine_begun(void)
{
#ifdef SIM_ASAN
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(NULL, &bottom, &size);
	if (!host_stack) {
		host_stack = bottom;
		host_stack_size = size;
	}
#endif
}

void coroutine_switch(struct thread *from, struct thread *to)
{
#ifdef SIM_ASAN
	__sanitizer_start_switch_fiber(from->ended ? NULL : &from->fake_stack,
				       to->stack ? to->stack : host_stack,
				       to->stack ? STACK_SIZE : host_stack_size);
#endif
#ifdef SIM_TSAN
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	sim_switch(&from->sp, to->sp);
#ifdef SIM_ASAN
	__sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}
