/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authenticated encryption of a page, by libsodium, with nonces of 24 bytes of which none
 * is used twice: 16 that are drawn at random by each process, and a counter.
 *
 * xchacha20poly1305 is that of draft-irtf-cfrg-xchacha-03. aes256gcm has nonces of 12
 * bytes, which are too few to draw; it gets what XChaCha20 does with 24: a key of its own
 * for the first 16 (HChaCha20 of the key and those), and the counter as nonce.
 */
#ifndef UHMM_DEVICES_CRYPT_CIPHER_H
#define UHMM_DEVICES_CRYPT_CIPHER_H

#include <stdbool.h>
#include <stdint.h>

#include "uhmm/device.h"

#define TAG_SIZE 16

/* What a page was encrypted with. */
struct nonce {
	uint8_t process[16];
	uint64_t counter;
};

enum cipher_kind { CIPHER_AES256GCM, CIPHER_XCHACHA20POLY1305 };

/* The key, in memory that is locked and will be wiped. */
struct cipher;

/* Has the processor what aes256gcm needs? Once, before the other functions. */
bool cipher_has_aes(void);
/* With a new key. NULL: no memory, none that can be locked, or nothing random. */
struct cipher *cipher_create(enum cipher_kind kind);
void cipher_destroy(struct cipher *cipher);
/* In a forked child: its nonces are others from now on. 0, or -errno: no page more. */
int cipher_after_fork(struct cipher *cipher);

/*
 * Encrypts in[0..len) to out, of the same length, with a nonce that is new, and a tag
 * that also says which page it is. Any thread.
 */
void cipher_encrypt(struct cipher *cipher, uint64_t page, const void *in, uint32_t len,
		    void *out, struct nonce *nonce, uint8_t tag[TAG_SIZE]);
/*
 * Decrypts buf[0..len) where it lies. False: it is not what was encrypted, or not for
 * that page; buf holds anything then. Any thread; takes no lock.
 */
bool cipher_decrypt(const struct cipher *cipher, uint64_t page, void *buf, uint32_t len,
		    const struct nonce *nonce, const uint8_t tag[TAG_SIZE]);

#endif
