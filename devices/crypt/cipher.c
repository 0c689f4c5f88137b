/* SPDX-License-Identifier: Apache-2.0 */
/* Pages encrypted and decrypted with libsodium: see cipher.h. */
#include "devices/crypt/cipher.h"

#include <string.h>

#include <sodium.h>

#define KEY_SIZE 32

_Static_assert(sizeof(struct nonce) == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
	       "a nonce of XChaCha20 is the two parts of ours");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == TAG_SIZE &&
		       crypto_aead_aes256gcm_ABYTES == TAG_SIZE,
	       "tags are of one size");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == KEY_SIZE &&
		       crypto_aead_aes256gcm_KEYBYTES == KEY_SIZE &&
		       crypto_core_hchacha20_KEYBYTES == KEY_SIZE &&
		       crypto_core_hchacha20_OUTPUTBYTES == KEY_SIZE,
	       "keys are of one size");

struct cipher {
	crypto_aead_aes256gcm_state aes; /* of this process's nonces */
	uint8_t key[KEY_SIZE];
	uint8_t process[16]; /* the first part of nonces: this process's */
	uint64_t counter;    /* atomic: the second part of the last one */
	enum cipher_kind kind;
};

/* What is authenticated besides the bytes. */
struct about {
	uint64_t page;
	uint64_t len;
};

/* ---- keys ------------------------------------------------------------------------- */

bool cipher_has_aes(void)
{
	return sodium_init() >= 0 && crypto_aead_aes256gcm_is_available();
}

static void aes_state(const struct cipher *cipher, const uint8_t process[16],
		      crypto_aead_aes256gcm_state *state)
{
	uint8_t key[KEY_SIZE];

	crypto_core_hchacha20(key, process, cipher->key, NULL);
	crypto_aead_aes256gcm_beforenm(state, key);
	sodium_memzero(key, sizeof(key));
}

static int draw_process(struct cipher *cipher)
{
	int r = uhmm_host_random(cipher->process, sizeof(cipher->process));

	if (!r && cipher->kind == CIPHER_AES256GCM)
		aes_state(cipher, cipher->process, &cipher->aes);
	return r;
}

struct cipher *cipher_create(enum cipher_kind kind)
{
	struct cipher *cipher = uhmm_host_secret_map(sizeof(*cipher));

	if (!cipher)
		return NULL;
	cipher->kind = kind;
	if (sodium_init() < 0 || uhmm_host_random(cipher->key, sizeof(cipher->key)) ||
	    draw_process(cipher)) {
		cipher_destroy(cipher);
		return NULL;
	}
	return cipher;
}

void cipher_destroy(struct cipher *cipher)
{
	uhmm_host_secret_unmap(cipher, sizeof(*cipher));
}

/* Where the child may lock no memory it goes on without: better than not at all. */
int cipher_after_fork(struct cipher *cipher)
{
	uhmm_host_secret_lock(cipher, sizeof(*cipher));
	return draw_process(cipher);
}

/* ---- pages ------------------------------------------------------------------------ */

static void aes_nonce(const struct nonce *nonce,
		      uint8_t out[crypto_aead_aes256gcm_NPUBBYTES])
{
	memset(out, 0, crypto_aead_aes256gcm_NPUBBYTES);
	memcpy(out, &nonce->counter, sizeof(nonce->counter));
}

static void aes_encrypt(struct cipher *cipher, const struct about *about, const void *in,
			void *out, const struct nonce *nonce, uint8_t *tag)
{
	uint8_t short_nonce[crypto_aead_aes256gcm_NPUBBYTES];

	aes_nonce(nonce, short_nonce);
	crypto_aead_aes256gcm_encrypt_detached_afternm(out, tag, NULL, in, about->len,
						       (const uint8_t *)about,
						       sizeof(*about), NULL, short_nonce,
						       &cipher->aes);
}

void cipher_encrypt(struct cipher *cipher, uint64_t page, const void *in, uint32_t len,
		    void *out, struct nonce *nonce, uint8_t tag[TAG_SIZE])
{
	struct about about = { .page = page, .len = len };

	memcpy(nonce->process, cipher->process, sizeof(nonce->process));
	nonce->counter = __atomic_add_fetch(&cipher->counter, 1, __ATOMIC_RELAXED);
	if (cipher->kind == CIPHER_AES256GCM)
		aes_encrypt(cipher, &about, in, out, nonce, tag);
	else
		crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
			out, tag, NULL, in, len, (const uint8_t *)&about, sizeof(about),
			NULL, (const uint8_t *)nonce, cipher->key);
}

static bool aes_decrypt(const crypto_aead_aes256gcm_state *state,
			const struct about *about, void *buf, const struct nonce *nonce,
			const uint8_t *tag)
{
	uint8_t short_nonce[crypto_aead_aes256gcm_NPUBBYTES];

	aes_nonce(nonce, short_nonce);
	return crypto_aead_aes256gcm_decrypt_detached_afternm(buf, NULL, buf, about->len,
							      tag, (const uint8_t *)about,
							      sizeof(*about), short_nonce,
							      state) == 0;
}

/* What a parent has encrypted, before it forked. */
static bool aes_decrypt_older(const struct cipher *cipher, const struct about *about,
			      void *buf, const struct nonce *nonce, const uint8_t *tag)
{
	crypto_aead_aes256gcm_state state;
	bool good;

	aes_state(cipher, nonce->process, &state);
	good = aes_decrypt(&state, about, buf, nonce, tag);
	sodium_memzero(&state, sizeof(state));
	return good;
}

bool cipher_decrypt(const struct cipher *cipher, uint64_t page, void *buf, uint32_t len,
		    const struct nonce *nonce, const uint8_t tag[TAG_SIZE])
{
	struct about about = { .page = page, .len = len };

	if (cipher->kind == CIPHER_XCHACHA20POLY1305)
		return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
			       buf, NULL, buf, len, tag, (const uint8_t *)&about,
			       sizeof(about), (const uint8_t *)nonce, cipher->key) == 0;
	if (memcmp(nonce->process, cipher->process, sizeof(nonce->process)) != 0)
		return aes_decrypt_older(cipher, &about, buf, nonce, tag);
	return aes_decrypt(&cipher->aes, &about, buf, nonce, tag);
}
