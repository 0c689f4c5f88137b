/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing a userfaultfd from a parent's reader to a forked child, on Linux.
 *
 * The reader's descriptors may lie in a file table that the forking thread does not share
 * (os_private_files()), so nothing can be inherited: the child connects to a socket in
 * the abstract namespace, whose name the kernel chose, and receives the descriptor. Only
 * a process of the same user that is our child is served.
 */
#include <pthread.h>
#include "lib/os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/os/sys.h"

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(OS_HANDOVER_MAX * sizeof(int))];
};

int os_handover_listen(struct os_handover_name *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	uint32_t len = sizeof(addr);
	long r;
	int fd = (int)sys3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	/* An address of just the family asks for a name: five hex digits after a zero. */
	r = sys3(SYS_bind, fd, &addr, sizeof(addr.sun_family));
	if (r == 0)
		r = sys2(SYS_listen, fd, 16);
	if (r == 0)
		r = sys3(SYS_getsockname, fd, &addr, &len);
	len -= offsetof(struct sockaddr_un, sun_path);
	if (r == 0 && len > sizeof(name->bytes))
		r = -ENAMETOOLONG;
	if (r < 0) {
		os_close(fd);
		return (int)r;
	}
	memcpy(name->bytes, addr.sun_path, len);
	name->len = len;
	return fd;
}

int os_handover_send(int listener, const int *fds, unsigned nr)
{
	union control control = { .header = {
					  .cmsg_len = CMSG_LEN(nr * sizeof(int)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS,
				  } };
	char byte = 'u';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	long r;
	int fd = (int)sys4(SYS_accept4, listener, 0, 0, SOCK_CLOEXEC);

	if (fd < 0)
		return fd;
	memcpy(CMSG_DATA(&control.header), fds, nr * sizeof(*fds));
	r = sys3(SYS_sendmsg, fd, &msg, MSG_NOSIGNAL);
	os_close(fd);
	return r < 0 ? (int)r : 0;
}

/* Of descriptors that came; false: not as many as were to come, and they are closed. */
static bool unpack(const struct msghdr *msg, const union control *control, int *fds,
		   unsigned nr)
{
	unsigned came = 0;

	if (msg->msg_controllen >= sizeof(struct cmsghdr) &&
	    control->header.cmsg_type == SCM_RIGHTS)
		came = (unsigned)((control->header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(&control->header), (came < nr ? came : nr) * sizeof(*fds));
	if (came == nr)
		return true;
	while (came && came < nr)
		os_close(fds[--came]);
	return false;
}

int os_handover_receive(const struct os_handover_name *name, int *fds, unsigned nr)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	union control control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	long r;
	int fd = (int)sys3(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	memcpy(addr.sun_path, name->bytes, name->len);
	r = sys3(SYS_connect, fd, &addr,
		 offsetof(struct sockaddr_un, sun_path) + name->len);
	if (r == 0) {
		do
			r = sys3(SYS_recvmsg, fd, &msg, MSG_CMSG_CLOEXEC);
		while (r == -EINTR);
	}
	os_close(fd);
	if (r < 0)
		return (int)r;
	return r == 1 && unpack(&msg, &control, fds, nr) ? 0 : -EPROTO;
}

int os_lifeline(int fds[2])
{
	return (int)sys2(SYS_pipe2, fds, O_CLOEXEC);
}

/* ---- lives ------------------------------------------------------------------------ */

/* A robust mutex: that its owner has ended, or called exec, the kernel says. */
static pthread_mutex_t *mutex_of(struct os_life *life)
{
	_Static_assert(sizeof(pthread_mutex_t) <= sizeof(life->impl), "a mutex fits");
	return (pthread_mutex_t *)life->impl;
}

void os_life_init(struct os_life *life)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex_of(life), &attr);
	pthread_mutexattr_destroy(&attr);
}

static bool has(struct os_life *life, int r)
{
	if (r == EOWNERDEAD)
		r = pthread_mutex_consistent(mutex_of(life));
	return r == 0;
}

void os_life_begin(struct os_life *life)
{
	has(life, pthread_mutex_lock(mutex_of(life)));
}

bool os_life_try(struct os_life *life)
{
	return has(life, pthread_mutex_trylock(mutex_of(life)));
}

void os_life_end(struct os_life *life)
{
	pthread_mutex_unlock(mutex_of(life));
}
