# bench.mk - the benchmarks (bench/README.md).

BENCH_LIB  := $(B)/obj/bench/lib/measure.o
BENCH_BINS := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/*.c))
# What each program links beside that. A peer's library may be missing: then so is its program, and the
# driver names it.
BENCH_SQLITE := $(addprefix $(B)/bench/,rows second orders)
BENCH_PEERS := $(B)/bench/pg_rows $(B)/bench/dqlite_rows
$(BENCH_SQLITE): $(B)/obj/bench/lib/sqlite_client.o
$(BENCH_SQLITE): bench_libs := -lsqlite3
$(B)/bench/pg_rows: bench_libs := -lpq
$(B)/bench/dqlite_rows: bench_libs := -ldqlite
$(B)/bench/getpages: $(BASE)
$(B)/bench/getpages: bench_libs := $(VFS_LIBS)
$(B)/bench/gc_steady: $(B)/libsafekeeper.a
$(B)/bench/page_format $(B)/bench/gc_steady $(B)/bench/ingest_replay: $(B)/libpageserver.a $(BASE)
$(B)/bench/page_format $(B)/bench/gc_steady $(B)/bench/ingest_replay: bench_libs := $(DAEMON_LIBS) -llmdb -lsqlite3 -lm
$(B)/bench/%: $(B)/obj/bench/%.o $(BENCH_LIB)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(bench_libs)

.PHONY: bench bench-full bench-smoke bench-bins bench-peers bench-speedtest bench-page bench-page-format
bench-bins: all $(filter-out $(BENCH_PEERS),$(BENCH_BINS))
bench-peers:
	-@$(MAKE) --no-print-directory -k $(BENCH_PEERS) >$(B)/bench/peers.log 2>&1 || \
	    echo 'bench: not every peer can be built ($(B)/bench/peers.log)'

# make bench : every workload, three rounds, under 15 minutes. ARGS="--only 1 --only 4": some rows.
bench: bench-bins
	@tools/deps build
	@tools/deps bench || echo 'bench: goes on without the peers that are not installed'
	@$(MAKE) --no-print-directory bench-peers
	-@$(MAKE) --no-print-directory bench-speedtest
	@B='$(B)' /usr/bin/python3 bench/run.py $(ARGS)
# make bench-full : the same with the sizes that take long.
bench-full: bench-bins
	@tools/deps build
	@tools/deps bench || echo 'bench: goes on without the peers that are not installed'
	@$(MAKE) --no-print-directory bench-peers
	-@$(MAKE) --no-print-directory bench-speedtest
	@B='$(B)' /usr/bin/python3 bench/run.py --full $(ARGS)
# make bench-smoke : the driver at tiny sizes, for its checks of results; no time is judged.
bench-smoke: bench-bins
	@B='$(B)' /usr/bin/python3 bench/run.py --smoke --out $(B)/bench/smoke $(ARGS)
# make bench-page : the tables of the last run into docs/PERFORMANCE.md, between its markers.
bench-page:
	@/usr/bin/python3 bench/page.py $(B)/bench/bench.json docs/PERFORMANCE.md
# SQLite's own speedtest1, with our VFS as its default one (tests/sqlite/README.md).
bench-speedtest: all $(SQLITE_LIBS)
	@tools/deps build sqlite
	@B='$(B)' CC='$(CC)' tests/sqlite/build speedtest1
# make bench-page-format : how large one value of the page store may be (docs/STORAGE.md).
bench-page-format: $(B)/bench/page_format
	@$(B)/bench/page_format
# make gc-steady : do page store and safekeepers stay as large as what is visible? VERSIONS=20000000: the whole of it.
.PHONY: gc-steady
VERSIONS ?= 2000000
gc-steady: $(B)/bench/gc_steady
	@rm -rf $(B)/gc-steady; $(B)/bench/gc_steady $(B)/gc-steady $(VERSIONS) 20 20000; rc=$$?; rm -rf $(B)/gc-steady; exit $$rc
