/* SPDX-License-Identifier: Apache-2.0 */
/* See real.h. */
#include "compat/dmirror/real.h"

#include <dlfcn.h>
#include <stdbool.h>

struct real real;

#define BIND(name_) real.name_ = (__typeof__(real.name_))dlsym(RTLD_NEXT, #name_)

/* Twice at the same time does no harm: both write the same. */
void real_bind(void)
{
	static bool bound;

	if (__atomic_load_n(&bound, __ATOMIC_ACQUIRE))
		return;
	BIND(open);
	BIND(openat);
	BIND(close);
	BIND(close_range);
	BIND(dup);
	BIND(dup2);
	BIND(dup3);
	BIND(fcntl);
	BIND(ioctl);
	BIND(read);
	BIND(pread);
	BIND(mmap);
	BIND(munmap);
	BIND(mprotect);
	BIND(pkey_mprotect);
	BIND(mremap);
	BIND(madvise);
	__atomic_store_n(&bound, true, __ATOMIC_RELEASE);
}
