/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layer `crypt`, over a device whose pages the test sees and changes: nothing of a
 * page is there, whatever is changed is noticed, and no two pages are encrypted alike.
 */
#include "tests/device/subject.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/device.h"
#include "lib/os/os_linux.h"

#define NR 40u

extern const struct uhmm_driver uhmm_driver_crypt;

/* ---- a device of glass ----------------------------------------------------------- */

/* Shared with forked children; a page's number is its place. */
static struct glass {
	uint32_t used; /* places, of which none is given back */
	uint32_t freed;
	uint8_t page[NR * 4][PAGE];
} * glass;

static int glass_open(const struct uhmm_device_args *args, void **dev, const char **error)
{
	(void)args;
	(void)error;
	glass = mmap(NULL, sizeof(*glass), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(glass != MAP_FAILED);
	*dev = glass;
	return 0;
}

static void glass_close(void *dev)
{
	munmap(dev, sizeof(*glass));
}

static int glass_submit(void *dev, struct uhmm_batch *batch)
{
	uint32_t i;

	(void)dev;
	for (i = 0; i < batch->nr; i++) {
		struct uhmm_io *io = &batch->io[i];

		if (batch->op == UHMM_OP_STORE) {
			io->page = __atomic_fetch_add(&glass->used, 1, __ATOMIC_RELAXED);
			memcpy(glass->page[io->page], io->buf, io->len);
		} else if (batch->op == UHMM_OP_LOAD) {
			memcpy(io->buf, glass->page[io->page], io->len);
		} else {
			glass->freed++;
		}
		io->result = 0;
	}
	batch->complete(batch);
	return 0;
}

static const struct uhmm_driver glass_driver = {
	.size = sizeof(struct uhmm_driver),
	.name = "glass",
	.summary = "shows what it keeps",
	.thread_model = UHMM_THREAD_PARALLEL,
	.batch = UHMM_BATCH_MAX,
	.open = glass_open,
	.close = glass_close,
	.submit = glass_submit,
};

/* ---- pages ----------------------------------------------------------------------- */

static uint8_t stored[NR][PAGE] __attribute__((aligned(4096)));
static uint8_t back[NR][PAGE] __attribute__((aligned(4096)));
static struct uhmm_io io[NR];
static struct uhmm_device *dev;

static void buffers(uint8_t (*buf)[PAGE])
{
	uint32_t i;

	for (i = 0; i < NR; i++) {
		io[i].buf = buf[i];
		io[i].len = PAGE;
	}
}

/* Pages that say who they are, stored in order. */
static void open_and_fill(const char *cipher)
{
	static const struct uhmm_driver *const drivers[] = { &uhmm_driver_crypt,
							     &glass_driver, NULL };
	char spec[64], error[256];
	uint32_t i;

	if (!strcmp(cipher, "aes256gcm") && !__builtin_cpu_supports("pclmul"))
		SKIP("the processor has no instructions for it");
	snprintf(spec, sizeof(spec), "crypt:cipher=%s+glass", cipher);
	CHECK_EQ(device_open_from(drivers, spec, &dev, error, sizeof(error)), 0);
	for (i = 0; i < NR; i++)
		memset(stored[i], (int)i + 1, PAGE);
	buffers(stored);
	for (i = 0; i < NR; i += 8)
		CHECK_EQ(device_run(dev, UHMM_OP_STORE, io + i, 8), 0);
	buffers(back);
}

/* Page nr comes back as it was. */
static void is_there(uint32_t nr)
{
	memset(back[nr], 0, PAGE);
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io[nr], 1), 0);
	CHECK_MEM(back[nr], stored[nr], PAGE);
}

static void is_lost(uint32_t nr)
{
	CHECK_EQ(device_run(dev, UHMM_OP_LOAD, &io[nr], 1), 1);
	CHECK_EQ(io[nr].result, -EIO);
}

static void close_all(void)
{
	device_close(dev);
}

static void exchange(uint32_t a, uint32_t b)
{
	static uint8_t page[PAGE];

	memcpy(page, glass->page[a], PAGE);
	memcpy(glass->page[a], glass->page[b], PAGE);
	memcpy(glass->page[b], page, PAGE);
}

#define BOTH_CIPHERS(name_)                                                              \
	static void name_(const char *cipher);                                           \
	TEST(name_##_aes256gcm)                                                          \
	{                                                                                \
		name_("aes256gcm");                                                      \
	}                                                                                \
	TEST(name_##_xchacha20poly1305)                                                  \
	{                                                                                \
		name_("xchacha20poly1305");                                              \
	}                                                                                \
	static void name_(const char *cipher)

/* ---- tests ----------------------------------------------------------------------- */

static uint32_t most_of_one_byte(const uint8_t *page)
{
	uint32_t count[256] = { 0 }, most = 0, i;

	for (i = 0; i < PAGE; i++)
		if (++count[page[i]] > most)
			most = count[page[i]];
	return most;
}

BOTH_CIPHERS(nothing_of_a_page_is_seen)
{
	uint32_t i, j;

	open_and_fill(cipher);
	CHECK_EQ(glass->used, NR);
	for (i = 0; i < NR; i++) {
		/* Of random bytes one comes 16 times, and hardly ever 64 times. */
		CHECK_LT(most_of_one_byte(glass->page[i]), 64);
		for (j = 0; j < i; j++)
			CHECK(memcmp(glass->page[i], glass->page[j], 16) != 0);
		is_there(i);
	}
	close_all();
}

/* The same bytes as the same page, again and again. */
BOTH_CIPHERS(no_two_stores_are_alike)
{
	uint64_t page;
	uint32_t i;

	open_and_fill(cipher);
	page = io[NR - 1].page;
	for (i = 0; i < NR; i++) {
		CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io[NR - 1], 1), 0);
		io[NR - 1].buf = stored[NR - 1];
		CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io[NR - 1], 1), 0);
		CHECK_EQ(io[NR - 1].page, page);
		CHECK(memcmp(glass->page[glass->used - 1], glass->page[glass->used - 2],
			     16) != 0);
	}
	CHECK_EQ(glass->freed, NR);
	close_all();
}

BOTH_CIPHERS(a_flipped_bit_is_noticed)
{
	uint32_t bit;

	open_and_fill(cipher);
	for (bit = 0; bit < PAGE * 8; bit += 1117) {
		glass->page[3][bit / 8] ^= (uint8_t)(1 << bit % 8);
		is_lost(3);
		is_there(4);
		glass->page[3][bit / 8] ^= (uint8_t)(1 << bit % 8);
		is_there(3);
	}
	close_all();
}

BOTH_CIPHERS(pages_that_were_exchanged_are_noticed)
{
	open_and_fill(cipher);
	exchange(5, 6);
	is_lost(5);
	is_lost(6);
	is_there(7);
	exchange(5, 6);
	is_there(5);
	is_there(6);
	close_all();
}

BOTH_CIPHERS(what_a_page_was_before_is_noticed)
{
	static uint8_t before[PAGE];
	uint64_t page;

	open_and_fill(cipher);
	page = io[NR - 1].page;
	memcpy(before, glass->page[NR - 1], PAGE);
	CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io[NR - 1], 1), 0);
	io[NR - 1].buf = stored[NR - 1];
	CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io[NR - 1], 1), 0);
	CHECK_EQ(io[NR - 1].page, page);
	io[NR - 1].buf = back[NR - 1];
	is_there(NR - 1);
	memcpy(glass->page[glass->used - 1], before, PAGE);
	is_lost(NR - 1);
	close_all();
}

/* What parent and child store next, each the same bytes as the same page. */
BOTH_CIPHERS(a_forked_child_encrypts_otherwise)
{
	uint32_t last, first;
	int status;
	pid_t pid;

	open_and_fill(cipher);
	first = glass->used;
	CHECK_EQ(device_run(dev, UHMM_OP_FREE, &io[0], 1), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		CHECK_EQ(device_after_fork(dev), 0);
	io[0].buf = stored[0];
	CHECK_EQ(device_run(dev, UHMM_OP_STORE, &io[0], 1), 0);
	io[0].buf = back[0];
	/* It reads what both have stored, but not what the other has since. */
	is_there(0);
	is_there(1);
	if (pid == 0)
		_exit(0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	last = glass->used;
	CHECK_EQ(last, first + 2);
	CHECK(memcmp(glass->page[first], glass->page[first + 1], 16) != 0);
	close_all();
}

static unsigned long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %lu", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

BOTH_CIPHERS(the_key_is_locked_in_memory)
{
	unsigned long before = locked_kib();

	open_and_fill(cipher);
	CHECK_GE(locked_kib(), before + 4);
	/* After an mlockall() of the program's all else of ours is unlocked. */
	os_linux_unlock_all();
	CHECK_GE(locked_kib(), before + 4);
	close_all();
	CHECK_EQ(locked_kib(), before);
}

TEST(a_cipher_that_nobody_knows)
{
	char error[256];

	CHECK_EQ(device_open("crypt:cipher=rot13+ram", &dev, error, sizeof(error)),
		 -EINVAL);
	CHECK(strstr(error, "cipher is aes256gcm or xchacha20poly1305"), "%s", error);
}
