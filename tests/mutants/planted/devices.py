# SPDX-License-Identifier: Apache-2.0
"""Bugs in devices and in what they are given."""
from .mutant import Mutant

MUTANTS = [
    # ---- devices ----------------------------------------------------------------------
    Mutant("do_not_compare", "devices/ram/ram.c",
           "a page whose bytes have changed on the device is handed out", """
	return check_of(io) == entry->check ? 0 : -EIO;
""", """
	return 0;
"""),
    Mutant("another_pages_bytes", "devices/ram/ram.c",
           "a page whose bytes and check have become another's is handed out", """
	return uhmm_checksum(io->buf, io->len) ^ io->page * UINT64_C(0x9e3779b97f4a7c15);
""", """
	return uhmm_checksum(io->buf, io->len);
"""),
    Mutant("one_entry_too_many", "devices/ram/ram.c",
           "the device takes more than its size", """
	if (i == ram->max_pages)
""", """
	if (i == ram->max_pages + 1)
"""),
    Mutant("page_is_kept_and_unmapped", "lib/host_pages.c",
           "a page that is kept for the next is given back too", """
	for (; done < nr; done++)
""", """
	for (done = 0; done < nr; done++)
"""),
    # ---- encryption -------------------------------------------------------------------
    Mutant("crypt_child_keeps_its_nonces", "devices/crypt/cipher.c",
           "a forked child encrypts with the nonces that its parent uses", """
	return draw_process(cipher);
}

/* ---- pages""", """
	return 0;
}

/* ---- pages"""),
    Mutant("crypt_believes_everybody", "devices/crypt/cipher.c",
           "what was changed below is decrypted and handed out", """
	if (memcmp(nonce->process, cipher->process, sizeof(nonce->process)) != 0)
		return aes_decrypt_older(cipher, &about, buf, nonce, tag);
	return aes_decrypt(&cipher->aes, &about, buf, nonce, tag);
""", """
	if (memcmp(nonce->process, cipher->process, sizeof(nonce->process)) != 0)
		return aes_decrypt_older(cipher, &about, buf, nonce, tag);
	aes_decrypt(&cipher->aes, &about, buf, nonce, tag);
	return true;
"""),
    Mutant("crypt_counts_not", "devices/crypt/cipher.c",
           "each page is encrypted with the same nonce", """
	nonce->counter = __atomic_add_fetch(&cipher->counter, 1, __ATOMIC_RELAXED);
""", """
	nonce->counter = 1;
"""),
    Mutant("crypt_key_can_be_swapped", "lib/host_secret.c",
           "memory for keys is not locked", """
	if (os_commit(addr, size) || os_lock(addr, size)) {
""", """
	if (os_commit(addr, size)) {
"""),
    # ---- a file ------------------------------------------------------------------------
    Mutant("file_child_goes_on_writing", "devices/file/file.c",
           "a forked child writes on where its parent does", """
		log->kept |= log->stuck;
		if (!log->kept)
			append_end(f, log);
""", """
		log->kept |= log->stuck;
"""),
    Mutant("file_forgets_the_child", "devices/file/file.c",
           "what a process frees goes although its forked child has it", """
		append_fork(f, &f->log[i]);
	share_claim(&f->share);
""", """
		append_fork(f, &f->log[i]);
	share_claim(&f->share);
	share_disclaim(&(struct share){ .memory = f->share.memory, .nr = f->share.nr,
					.me = f->share.me, .child = f->share.child,
					.freed = f->share.freed, .ctx = f });
"""),
    Mutant("file_believes_the_disk", "devices/file/load.c",
           "what was read is not compared with what was stored", """
	return check_of(io->buf, io->len, io->page) ==
			       __atomic_load_n(&record->check, __ATOMIC_RELAXED) ?
		       0 :
		       -EIO;
""", """
	(void)record;
	return 0;
"""),
    Mutant("file_writes_to_strangers", "lib/os/os_linux_file.c",
           "a descriptor that is another file's by now is written to", """
	return sys2(SYS_fstat, file->fd, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
""", """
	return sys2(SYS_fstat, file->fd, &st) == 0;
"""),
    Mutant("file_lets_go_of_the_buffer", "devices/file/append.c",
           "what the kernel did not take is let go of", """
	if (!r)
		advance(log, log->at / BLOCK * BLOCK);
	return r;
""", """
	advance(log, log->at / BLOCK * BLOCK);
	return 0;
"""),
    Mutant("file_moves_what_was_freed", "devices/file/append.c",
           "a page that was freed and stored anew is where its old bytes were moved", """
	if (!move(record, object, place))
		unused = place;
""", """
	if (!move(record, object, place))
		__atomic_store_n(&record->place, place, __ATOMIC_RELEASE);
"""),
    Mutant("tier_moves_what_is_read", "lib/tier_move.c",
           "a page goes to the next tier while somebody reads it", """
	return __atomic_compare_exchange_n(&r->word, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
""", """
	(void)from;
	__atomic_store_n(&r->word, to, __ATOMIC_RELEASE);
	return true;
"""),
    Mutant("clones_are_filled_as_if_frozen", "lib/fork_fill.c",
           "a raw clone's child is filled as if nobody else used the device", """
			       fill->sp->reader_buf, fill->frozen);
""", """
			       fill->sp->reader_buf, true);
"""),
    # ---- the kernel's test device -----------------------------------------------------
    Mutant("dmirror_ignores_the_sequence", "compat/dmirror/migrate.c",
           "the device's table gets pages that were discarded during the migration", """
	done = !uhmm_notifier_read_retry(m->notifier, seq);
""", """
	done = true;
	(void)seq;
"""),
    Mutant("dmirror_does_not_look_again", "compat/dmirror/migrate.c",
           "a migration fails because something happened elsewhere", """
	return stored ? 0 : mirror_adopt(w, start, end);
""", """
	(void)stored;
	return 0;
"""),
    Mutant("dmirror_fault_over_migration", "compat/dmirror/fault.c",
           "a fault overwrites what the same file has migrated meanwhile", """
	if (uhmm_notifier_read_retry(m->notifier, w->range.notifier_seq) ||
	    m->own_seq != own_seq)
""", """
	if (uhmm_notifier_read_retry(m->notifier, w->range.notifier_seq) ||
	    (0 && m->own_seq != own_seq))
"""),
    Mutant("dmirror_own_changes_not_counted", "compat/dmirror/migrate.c",
           "what a file has changed in its table itself is not counted", """
	__atomic_fetch_add(&m->own_seq, 1, __ATOMIC_RELEASE);
""", """
"""),
    Mutant("dmirror_misses_mremaps_target", "compat/dmirror/map.c",
           "the device keeps what it had where mremap() has put something else", """
		process_mappings_changed((uintptr_t)p, new_len);
	end(locked, &signals, addr, len > new_len ? len : new_len);
""", """
		(void)p;
	end(locked, &signals, addr, len > new_len ? len : new_len);
"""),
    Mutant("dmirror_hears_its_own", "compat/dmirror/mirror.c",
           "a device's own migration empties its table", """
	if (is_own(m, what))
		return;
""", """
	(void)is_own;
"""),
    Mutant("dmirror_deaf_to_others", "compat/dmirror/mirror.c",
           "the table keeps what another file's migration has taken away", """
	       what->owner == m;
""", """
	       what->owner != NULL;
"""),
    Mutant("packed_does_not_compare", "devices/packed_store.c",
           "a compressed page whose bytes have changed is handed out", """
	if (!r && check_of(io->buf, io->len) != view.check)
		r = -EIO;
""", """
"""),
    Mutant("packed_almost_the_same", "devices/packed.c",
           "a page whose last words differ is kept as one repeated word", """
	for (i = 0; i < nr; i += 8) {
		differs""", """
	for (i = 0; i < nr - 8; i += 8) {
		differs"""),
    Mutant("packed_keeps_what_is_freed", "devices/packed_store.c",
           "compressed pages are counted as freed, and stay", """
		uhmm_store_free(p->store, io->page);
		io->result = 0;
""", """
		io->result = 0;
"""),
]
