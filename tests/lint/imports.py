# SPDX-License-Identifier: Apache-2.0
"""imports.py NM PRELOAD: what libuhmm-preload.so takes from outside.

A program may define any of it anew. What is called on our threads must not be among it:
preload/libc.c has that. The rest is called on the program's threads, or before it starts.
"""

import subprocess
import sys

# On any thread, if they are libc's.
BOUND = """
__explicit_bzero_chk bcmp clock_gettime explicit_bzero getcpu memchr memcmp memcpy memmove
memset strchr strcmp strlen strncmp
""".split()
# Before the program starts.
START = """
__register_atfork close dl_iterate_phdr dlopen dlsym fcntl64 fcntl fstat64 fstat getenv
getpid getrandom munmap open open64 stat stat64 sysconf
""".split()
# In functions of libc that the preload wraps (alone.c, clone.c, exec.c, expect.c, hot.c,
# leave.c, threads.c, wrap.c).
WRAPPED = """
__read pthread_getcpuclockid
__environ __errno_location __isoc23_strtol environ fdopen lseek lseek64 memfd_create
pthread_self read snprintf strrchr strstr strtol write
""".split()
# Never reached: threads of pthread_create(), what page maps do that are shared with
# forked processes (there are none), LZ4's, Zstandard's and libsodium's own allocation,
# what libsodium does where it is called wrongly, a smashed stack.
UNUSED = """
__assert_fail __stack_chk_fail abort calloc free malloc mprotect munlock
pthread_attr_destroy pthread_attr_init pthread_attr_setstack pthread_create pthread_join
pthread_mutex_consistent pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
pthread_mutex_unlock pthread_mutexattr_destroy pthread_mutexattr_init
pthread_mutexattr_setpshared pthread_mutexattr_setrobust raise
""".split()
# Weak: may be missing.
WEAK = """
_ITM_deregisterTMCloneTable _ITM_registerTMCloneTable __cxa_finalize __gmon_start__
__lsan_do_leak_check
""".split()


def main():
    out = subprocess.run([sys.argv[1], "-D", "--undefined-only", sys.argv[2]],
                         check=True, capture_output=True, text=True).stdout
    found = {line.split()[-1].split("@")[0] for line in out.splitlines()}
    if "dlsym" not in found:
        sys.exit(f"imports.py: {sys.argv[1]} says nothing of {sys.argv[2]}")
    unknown = sorted(found - set(BOUND + START + WRAPPED + UNUSED + WEAK))
    print("1..1")
    for name in unknown:
        print(f"# imports {name}(): wrap it in preload/libc.c, or say in "
              "tests/lint/imports.py why no thread of ours calls it")
    print(f"{'not ok' if unknown else 'ok'} 1 - imports of the preload")


main()
