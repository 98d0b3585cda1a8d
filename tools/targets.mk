# targets.mk - the phony targets of the Makefile: checks, tests, demonstration, installation.

C_FILES = $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h')

# Every recipe of these is a program under tools/ or tests/: what they do is said there.

.PHONY: help
help:
	@printf '%s\n' \
	  'make                  build corallite, corallite-pageserver, corallite-safekeeper, corallite.so' \
	  'make run              install what is missing, build, start a cluster, load data, read it back' \
	  'make stop             stop the cluster of make run (make run starts it again)' \
	  'make test             install what is missing, build, run every test; ends with the totals' \
	  'make unit [M=common]  unit tests only (of one module)' \
	  'make integration      tests on real processes only; make cli-test  those of the command' \
	  'make chaos SECONDS=   faults of every kind against real processes, and a checker (MIX=NAME SEED=N)' \
	  'make kills N=10000    kill -9 by turns: recovery, and nothing lost' \
	  'make docs-test        every command of README.md and docs/*.md' \
	  'make sizes            databases of unusual size, in full (make test has small ones)' \
	  'make sqlite-quarter   a quarter of the scripts of SQLite itself; sqlite-conformance: all, and the table' \
	  'make large            one transaction of 2 GB by a process that may have 256 MB (MIB=2048)' \
	  'make sim SEED= RUNS=  the deterministic simulator of the quorum log' \
	  'make sim-ranges FROM= COUNT= STEP= LOG=  the same over a range of seeds, with a log; resumable' \
	  'make simc SECONDS=    crash points of the safekeeper'"'"'s storage; simc-deep, simc-mutations' \
	  'make mutations        each known mistake of the log is built in and must be found' \
	  'make fuzz [SECONDS=60] [F=frames]  each decoder under libFuzzer, ASan and UBSan' \
	  'make fullsim SEED= RUNS=  the simulator of the whole system: SQLite, VFS, daemons; fullsim-mutations, fullsim-ranges' \
	  'make rules            each rule of the VFS is taken out and must be missed by a test' \
	  'make languages        programs of others: preloaded, by plain paths, the examples' \
	  'make examples-all     the examples in languages whose packages are large: Node, Go, Java' \
	  'make bench            Corallite, local SQLite, PostgreSQL, dqlite, etcd side by side, 15 minutes; bench-full: more' \
	  'make many [N=10000]   many small databases: rate, memory, descriptors, disk, time to be ready after a restart' \
	  'make soak SECONDS=600 do memory, descriptors and disk stay as they are under a mixed load?' \
	  'make ceph             archives in a real store with conditional writes: Ceph, of one node' \
	  'make gc-steady        does the page store stay as large as what is visible? (VERSIONS=2000000)' \
	  'make sanitize         unit tests and simulator under ASan and UBSan' \
	  'make tsan             the products as processes under ThreadSanitizer' \
	  'make sanitize-all     the whole suite under ASan and UBSan; tsan-all, valgrind: under those (long)' \
	  'make portable         without instructions that only some processors have: unit tests, a cluster' \
	  'make clang            everything compiled by clang, warnings are errors' \
	  'make lint             style, layers, READMEs      make fmt   clang-format over all files' \
	  'make install          to $$(DESTDIR)$$(PREFIX), /usr/local by default; make uninstall undoes it' \
	  'make clean            remove $$(B)' \
	  'Variables: B=build (where everything is made) V=1 (show commands) CC= PREFIX= DESTDIR= DEPS=no'

# A sub-make uses all processors unless the caller has said how many.
JOBS = $(if $(findstring j,$(firstword -$(MAKEFLAGS))),,-j$(shell nproc))

# ---- tests ---------------------------------------------------------------------------------------

M ?= $(UNIT_MODULES)
# Some tests of the daemons' modules start the daemon itself (CORALLITE_BIN_DIR).
UNIT_NEEDS = $(patsubst %,$(B)/tests/unit-%,$(M)) $(B)/tests/canary \
             $(if $(filter safekeeper pageserver,$(M)),$(PRODUCTS))

.PHONY: unit-bins unit unit-run integration test
# Order matters only to `unit`: what it runs must have been built.
unit-run: | $(if $(filter unit,$(MAKECMDGOALS)),$(UNIT_NEEDS))
unit-bins: $(UNIT_BINS)

# The binary of each module is named here and not globbed: one that was not built is a failure.
# unit-run builds nothing.
unit: $(UNIT_NEEDS) unit-run
unit-run:
	@tests/unit/run --canary $(if $(findstring -fsanitize,$(EXTRA)),--leaks) $(B)/tests/canary
	@CORALLITE_BIN_DIR=$(abspath $(B)) tests/unit/run $(patsubst %,$(B)/tests/unit-%,$(M))

# The proxy that stands in for a bad network (tests/integration/lib/proxy.c).
$(B)/tests/chaos-proxy: $(B)/obj/tests/integration/lib/proxy.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@

# A wall clock that jumps (tests/chaos/clock.c), preloaded into daemons and clients.
$(B)/tests/chaos-clock.so: $(B)/obj/tests/chaos/clock.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared $^ -o $@

# Makes branches over one connection (tests/integration/lib/branch_client.c).
$(B)/tests/branch-client: $(B)/obj/tests/integration/lib/branch_client.o $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(VFS_LIBS)

# Signs requests to a store, line by line (tests/integration/lib/s3_sign.c).
$(B)/tests/s3-sign: $(B)/obj/tests/integration/lib/s3_sign.o $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(VFS_LIBS)

# Damages the files of daemons that are stopped, by name (tests/damage).
$(B)/tests/damage: $(call objs,$(wildcard tests/damage/*.c)) $(B)/libpageserver.a $(B)/libsafekeeper.a $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(DAEMON_LIBS) -llmdb -ljansson

integration: all $(B)/tests/s3-sign $(INTEGRATION_BINS) $(B)/tests/integration/fsync_fails.so $(B)/tests/chaos-proxy $(B)/tests/chaos-clock.so $(B)/tests/branch-client $(B)/tests/damage
	@tools/deps test
	@B=$(B) python3 tests/integration/run.py $(ARGS)

# Faults of every kind against real processes (tests/chaos): each mix for so long, or MIX=; chaos-ci: six of them.
.PHONY: chaos chaos-ci chaos-bins
SECONDS ?= 30
chaos-bins: all $(B)/tests/chaos-proxy $(B)/tests/chaos-clock.so
chaos: chaos-bins
	@tools/deps test
	@B=$(B) /usr/bin/python3 tests/chaos/run.py --seconds $(SECONDS) $(addprefix --mix ,$(MIX)) \
	  $(if $(filter command environment,$(origin SEED)),--seed $(SEED)) $(ARGS)
# kill -9 of writer, safekeeper, pageserver by turns, N times, and the time to the next COMMIT.
.PHONY: kills
kills: all
	@tools/deps test
	@B=$(B) /usr/bin/python3 tests/chaos/kills.py --kills $(or $(N),10000) $(ARGS)

# The same against products that make one known mistake (common/mutation.h): it must be found.
.PHONY: chaos-mistakes
chaos-mistakes:
	@tools/deps build test
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/mutations EXTRA=-DCO_MUTATIONS \
	  $(B)/mutations/obj/tests/chaos/mistake.o
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/mutations EXTRA=-DCO_MUTATIONS \
	  LDFLAGS=$(B)/mutations/obj/tests/chaos/mistake.o chaos-bins
	@B=$(B)/mutations /usr/bin/python3 tests/chaos/mistakes.py $(ARGS)
chaos-ci: chaos-bins
	@tools/deps test
	@B=$(B) /usr/bin/python3 tests/chaos/run.py --ci

# Programs of others: preloaded, by plain paths, the examples in each language. Those whose packages
# are large (Node where there is no npm yet, Go, Java) by examples-all.
.PHONY: languages examples-all
languages: all $(INTEGRATION_BINS) $(B)/tests/unit-compute-vfs
	@tools/deps test examples
	@B=$(B) python3 tests/integration/run.py --languages $(ARGS)
examples-all: all
	@tools/deps test examples toolchains
	@B=$(B) python3 tests/integration/run.py --only example_node --only example_go --only example_java

# Page sizes, the lock page, 10,000 tables, a row of 500 MB: minutes, and some 10 GB of disk.
.PHONY: sizes
sizes:
	@$(MAKE) --no-print-directory integration \
	  ARGS='--slow --only page_sizes --only lock_page --only many_tables --only large_row'

# Many small databases on one cluster (tests/integration/many.py); 10,000 take some minutes and 2 GB of disk.
.PHONY: many
many: all
	@tools/deps test
	@B=$(B) N=$(or $(N),10000) /usr/bin/python3 tests/integration/many.py $(ARGS)

# Memory, descriptors and disk of each daemon stay as they are (tests/integration/soak.py): 600 s, or SECONDS=7200;
# REST=5: not at full throttle.
.PHONY: soak
soak: all
	@tools/deps test
	@B=$(B) REST=$(REST) SECONDS_TO_SOAK=$(if $(filter command environment,$(origin SECONDS)),$(SECONDS),600) \
	  /usr/bin/python3 tests/integration/soak.py

.PHONY: cli-test docs-test

# An archive in a Ceph of one node (tests/integration/test_ceph.py); some five minutes. ARGS=--slow: longer.
.PHONY: ceph
ceph: all $(INTEGRATION_BINS) $(B)/tests/unit-archive
	@tools/deps test ceph
	@B=$(B) python3 tests/integration/run.py --only ceph_store --only ceph_out_and_back --only ceph_pruned \
	  --only ceph_deposed --only ceph_in_trouble --only ceph_refuses $(ARGS)

# One transaction of 2 GB by a process that may have 256 MB; minutes, and 8 GB of disk. MIB= for another size.
.PHONY: large
large: all
	@tools/deps test
	@B=$(B) python3 tests/integration/full_size.py $(or $(MIB),2048)

cli-test: all
	@tests/cli/run $(B)

.PHONY: rules
rules:
	@tools/deps build test
	@B=$(B) tests/rules/run $(ARGS)

# Branches 64 deep, a log of 100,000 commits: too long for each run.
.PHONY: cli-slow
cli-slow: all
	@/usr/bin/python3 tests/cli/slow.py $(B)

# Every command of README.md and docs/*.md (PAGES=: these only), and what they say of the code.
docs-test: all
	@tools/deps test docs
	@B='$(B)' tests/docs/run $(PAGES)

# tools/test builds by itself (through make), so that a test that does not compile is counted.
test:
	@tools/deps build test docs examples fuzz sqlite
	@MAKE='$(MAKE)' B='$(B)' tools/test

# ---- variants: each in a build directory of its own ----------------------------------------------

.PHONY: sanitize clang portable
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitize:
	@tools/deps build test sanitize
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 unit
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 $(B)/sanitize/tests/sim
	@$(B)/sanitize/tests/sim --seconds 20
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 sanitized-bins
	@B=$(B)/sanitize /usr/bin/python3 tests/sanitized/run.py address

# The whole suite under ASan and UBSan, under TSan, under valgrind's memcheck: by hand, an hour or more each.
# PARTS='unit integration' ONLY='name ...' SUITE_JOBS=2 RESUME=yes: tests/sanitized/suite.py. sanitizers: one after the other.
.PHONY: sanitize-all tsan-all valgrind sanitizers
SUITE_BINS = all unit-bins $(INTEGRATION_BINS) $(B)/tests/chaos-proxy $(B)/tests/chaos-clock.so $(B)/tests/branch-client $(B)/tests/s3-sign \
             $(B)/tests/integration/fsync_fails.so $(B)/tests/damage $(B)/tests/sim $(B)/tests/simc \
             $(B)/tests/sanitized/canary $(B)/tests/sanitized/canaryextension.so $(B)/tests/sanitized/first.so \
             $(B)/tests/canary
$(B)/tests/sanitized/canaryextension.so: $(B)/obj/tests/sanitized/canary_extension.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared $^ -o $@
$(B)/tests/sanitized/first.so: $(B)/obj/tests/sanitized/first.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-z,initfirst $^ -o $@
.PHONY: suite-bins
suite-bins: $(SUITE_BINS)
# Goes into everything that is linked (tests/sanitized/ubsan_log.c).
UBSAN_LOG = $(B)/sanitize/obj/tests/sanitized/ubsan_log.o
# The same under TSan (tests/sanitized/tsan_close.c).
TSAN_ALL = $(MAKE) $(JOBS) --no-print-directory B=$(B)/tsan-all SHIM=yes EXTRA='-fsanitize=thread -w' OPT=-O1
TSAN_CLOSE = obj/tests/sanitized/tsan_close.o
# tools/npm-sqlite: a compiler under a preloaded sanitizer takes many minutes, so what the tests would build is built before.
SUITE = ONLY='$(ONLY)' RESUME='$(RESUME)' JOBS='$(or $(SUITE_JOBS),2)' /usr/bin/python3 tests/sanitized/suite.py
sanitize-all:
	@tools/deps build test examples sanitize sqlite
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 $(UBSAN_LOG)
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 LDFLAGS=$(abspath $(UBSAN_LOG)) suite-bins $(B)/sanitize/tests/fullsim sqlite-harness
	@tools/npm-sqlite $(B)/sanitize/npm >$(B)/sanitize/npm.log 2>&1 || :
	@B=$(B)/sanitize $(SUITE) address $(PARTS)
tsan-all:
	@tools/deps build test examples sanitize
	@$(TSAN_ALL) $(B)/tsan-all/$(TSAN_CLOSE)
	@$(TSAN_ALL) LDFLAGS=$(abspath $(B)/tsan-all/$(TSAN_CLOSE)) suite-bins
	@tools/npm-sqlite $(B)/tsan-all/npm >$(B)/tsan-all/npm.log 2>&1 || :
	@B=$(B)/tsan-all $(SUITE) thread $(PARTS)
valgrind:
	@tools/deps build test examples sanitize
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/valgrind SHIM=yes EXTRA=-w OPT='-O1 -DCO_PORTABLE' suite-bins
	@tools/npm-sqlite $(B)/valgrind/npm >$(B)/valgrind/npm.log 2>&1 || :
	@B=$(B)/valgrind $(SUITE) memcheck $(PARTS)
sanitizers: sanitize-all tsan-all valgrind

# The products as real processes under ThreadSanitizer.
.PHONY: tsan sanitized-bins
sanitized-bins: all $(B)/tests/integration/crowd $(B)/tests/sanitized/canary
$(B)/tests/sanitized/canary: $(B)/obj/tests/sanitized/canary.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@
tsan:
	@tools/deps build test sanitize
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/tsan EXTRA=-fsanitize=thread OPT=-O1 $(B)/tsan/$(TSAN_CLOSE)
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/tsan EXTRA=-fsanitize=thread OPT=-O1 LDFLAGS=$(abspath $(B)/tsan/$(TSAN_CLOSE)) sanitized-bins
	@B=$(B)/tsan /usr/bin/python3 tests/sanitized/run.py thread

# Every trick with instructions left out, as on a processor that has none: the formats must not change.
portable:
	@tools/deps build test
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/portable EXTRA=-DCO_PORTABLE unit M='common proto'
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/portable EXTRA=-DCO_PORTABLE all
	@! objdump -d $(B)/portable/corallite.so | grep -qw 'crc32[bwlq]*' || \
	    { echo 'portable: there is a crc32 instruction in corallite.so'; exit 1; }
	@objdump -d $(B)/corallite.so | grep -qw 'crc32[bwlq]*' || \
	    { echo 'portable: this check finds no crc32 instruction in $(B)/corallite.so either'; exit 1; }
	@B=$(B)/portable python3 tests/integration/run.py --only stock_shell

clang:
	@tools/deps build test lint
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/clang CC=clang all unit-bins $(B)/clang/tests/sim

# ---- style ---------------------------------------------------------------------------------------

.PHONY: lint fmt
lint: all
	@tools/deps lint
	@CC='$(CC)' B='$(B)' CPPFLAGS='$(CPPFLAGS)' tools/lint
	@tests/rules/run --texts

fmt:
	clang-format-14 -i $(C_FILES)

# ---- demonstration -------------------------------------------------------------------------------

.PHONY: run stop
run:
	@tools/deps build demo
	@$(MAKE) $(JOBS) --no-print-directory all
	@B='$(B)' tools/demo

stop:
	@$(B)/corallite down --dir $(B)/demo

# ---- installation --------------------------------------------------------------------------------

bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib/corallite
sharedir = $(DESTDIR)$(PREFIX)/share
mandir = $(sharedir)/man
BINARIES := corallite corallite-pageserver corallite-safekeeper
# Where each shell looks for the completion of a command.
COMPLETION_bash = $(sharedir)/bash-completion/completions/corallite
COMPLETION_zsh  = $(sharedir)/zsh/site-functions/_corallite
COMPLETION_fish = $(sharedir)/fish/vendor_completions.d/corallite.fish
COMPLETIONS = $(COMPLETION_bash) $(COMPLETION_zsh) $(COMPLETION_fish)

.PHONY: install uninstall clean man
# The manual pages, from the same texts as --help: $(B)/man/man1 and man8.
man: all
	@rm -rf $(B)/man && mkdir -p $(B)/man/man1 $(B)/man/man8
	@$(B)/corallite help --man-dir $(B)/man/man1
	@for name in pageserver safekeeper; do \
	   $(B)/corallite-$$name --man >$(B)/man/man8/corallite-$$name.8 || exit 1; done

install: all man
	@mkdir -p $(bindir) $(libdir) $(mandir)/man1 $(mandir)/man8 $(dir $(COMPLETIONS))
	@for name in $(BINARIES); do install -m 0755 $(B)/$$name $(bindir)/$$name || exit 1; done
	@install -m 0644 $(B)/corallite.so $(libdir)/corallite.so
	@for n in 1 8; do install -m 0644 $(B)/man/man$$n/*.$$n $(mandir)/man$$n/ || exit 1; done
	@$(B)/corallite completion bash >$(COMPLETION_bash)
	@$(B)/corallite completion zsh >$(COMPLETION_zsh)
	@$(B)/corallite completion fish >$(COMPLETION_fish)
	@echo "installed $(BINARIES) to $(bindir), corallite.so to $(libdir), manual pages and completion below $(sharedir)"

uninstall:
	@for name in $(BINARIES); do rm -f $(bindir)/$$name; done
	@rm -f $(libdir)/corallite.so $(mandir)/man1/corallite.1 $(mandir)/man1/corallite-*.1 \
	   $(mandir)/man8/corallite-*.8 $(COMPLETIONS)
	@-rmdir $(libdir) 2>/dev/null
	@echo "removed $(BINARIES), corallite.so, manual pages and completion below $(DESTDIR)$(PREFIX)"

# A cluster that `make run` left running is stopped first: its data lies under $(B).
clean:
	@if [ -x $(B)/corallite ] && [ -e $(B)/demo/cluster ]; then $(B)/corallite down --dir $(B)/demo; fi
	rm -rf $(B)
