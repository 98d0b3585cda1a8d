# fullsim.mk - the simulator of the whole system (tests/fullsim/README.md): many seeds, mistakes.

comma := ,

# Calls of the products' files that go to the simulator: of the C library, what several daemons in one
# process would do twice, and what the oracle looks at.
FULL_WRAPS := pthread_mutex_init pthread_mutex_destroy pthread_mutex_lock pthread_mutex_trylock \
    pthread_mutex_unlock pthread_condattr_init pthread_condattr_destroy pthread_condattr_setclock \
    pthread_cond_init pthread_cond_destroy pthread_cond_signal pthread_cond_broadcast \
    pthread_cond_wait pthread_cond_timedwait pthread_create pthread_join pthread_attr_init \
    pthread_attr_destroy pthread_attr_setdetachstate pthread_sigmask pthread_atfork pthread_once \
    pthread_key_create pthread_getspecific pthread_setspecific \
    sem_init sem_destroy sem_post sem_clockwait clock_gettime nanosleep usleep getrandom \
    socket connect send recv __recv_chk shutdown setsockopt getsockopt getsockname getpeername \
    eventfd poll ppoll __poll_chk __ppoll_chk \
    open openat close read write pread pwrite fsync fdatasync ftruncate lseek flock fstat stat \
    fstatat statvfs mkdir mkdirat rmdir unlink unlinkat linkat rename renameat opendir fdopendir readdir closedir dirfd \
    mdb_txn_commit co_metric_register peer_metrics_register \
    co_assert_failed sk_archived_told sk_segments_drop ps_snap_write ps_feed_refilled sk_step pr_new pr_free pr_step cv_database_read_page cv_database_pin cv_database_pin_at ps_page_get \
    cv_chain_brought cv_spilled_seal wal_builder_seal \
    cv_tier_find cv_tier_keep ps_feed_wanted ps_view_hold net_duplicate cv_cache_rollback cv_cache_begin changes_get_commit
FULL_LIBS := $(B)/libcompute-vfs.a $(B)/libcli.a $(B)/libpageserver.a $(B)/libsafekeeper.a $(BASE)
FULL_LINK  = $(CC) $(ALL_LDFLAGS) -pie $(addprefix -Wl$(comma)--wrap=,$(FULL_WRAPS))
FULL_NEEDS := -lsqlite3 -llmdb -ljansson -lmicrohttpd -lprotobuf-c -lzstd -lcrypto -lm
FULL_SRC   := $(wildcard tests/fullsim/*.c)

# The products' own object files, whole; libuv is the simulator's.
$(B)/tests/fullsim: $(call objs,$(FULL_SRC)) $(FULL_LIBS)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(FULL_LINK) $^ -o $@ $(FULL_NEEDS)

# The variant that can make mistakes (common/mutation.h): of the products only the files that have
# one in them are compiled again.
MUT_FULL := $(B)/mutations/tests/fullsim
MUT_FULL_OBJS = $(patsubst %.c,$(B)/mutations/obj/%.o,$(FULL_SRC) \
    $(shell grep -lw co_mutated compute-vfs/*.c pageserver/*.c safekeeper/*.c))
.PHONY: $(MUT_FULL)
$(MUT_FULL): $(FULL_LIBS)
	+@$(MAKE) --no-print-directory B=$(B)/mutations EXTRA='$(EXTRA) -DCO_MUTATIONS' $(MUT_FULL_OBJS)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(FULL_LINK) $(MUT_FULL_OBJS) $(FULL_LIBS) -o $@ $(FULL_NEEDS)

# make fullsim SEED= RUNS= : the whole system under RUNS seeds from SEED on.
.PHONY: fullsim
fullsim: $(B)/tests/fullsim
	$(B)/tests/fullsim --seed $(SEED) --runs $(RUNS) --shrink

# make fullsim-ranges FROM= COUNT= LOG= : the same over a range of seeds, 50 at a time, noted and resumed like
# sim-ranges.
.PHONY: fullsim-ranges
fullsim-ranges: LOG = $(B)/fullsim-ranges.log
fullsim-ranges: $(B)/tests/fullsim
	tools/sim-ranges $(B)/tests/fullsim $(LOG) $(FROM) $(COUNT) 50

# make fullsim-mutations : every mistake of the storage must be found, from a start that is drawn now.
.PHONY: fullsim-mutations fullsim-part
fullsim-mutations: $(MUT_FULL)
	$(MUT_FULL) --mutations

# What `make test` does of both.
fullsim-part: $(B)/tests/fullsim $(MUT_FULL)
	@tests/fullsim/run $(B)
