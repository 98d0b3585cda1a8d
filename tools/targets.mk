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
	  'make large            one transaction of 2 GB by a process that may have 256 MB (MIB=2048)' \
	  'make sim SEED= RUNS=  the deterministic simulator of the quorum log' \
	  'make mutations        each known mistake of the log is built in and must be found' \
	  'make bench            the small benchmarks under bench/' \
	  'make sanitize         unit tests and simulator under ASan and UBSan' \
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

integration: all $(INTEGRATION_BINS) $(B)/tests/chaos-proxy
	@tools/deps test
	@B=$(B) python3 tests/integration/run.py $(ARGS)

# One transaction of 2 GB by a process that may have 256 MB; minutes, and 8 GB of disk. MIB= for another size.
.PHONY: large
large: all
	@tools/deps test
	@B=$(B) python3 tests/integration/full_size.py $(or $(MIB),2048)

.PHONY: cli-test
cli-test: all
	@tests/cli/run $(B)

# tools/test builds by itself (through make), so that a test that does not compile is counted.
test:
	@tools/deps build test
	@MAKE='$(MAKE)' B='$(B)' tools/test

# ---- variants: each in a build directory of its own ----------------------------------------------

.PHONY: sanitize clang
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitize:
	@tools/deps build test sanitize
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 unit
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/sanitize EXTRA='$(SAN_FLAGS)' OPT=-O1 $(B)/sanitize/tests/sim
	@$(B)/sanitize/tests/sim --seconds 20

clang:
	@tools/deps build test lint
	@$(MAKE) $(JOBS) --no-print-directory B=$(B)/clang CC=clang all unit-bins $(B)/clang/tests/sim

# ---- style ---------------------------------------------------------------------------------------

.PHONY: lint fmt
lint: all
	@tools/deps lint
	@CC='$(CC)' B='$(B)' CPPFLAGS='$(CPPFLAGS)' tools/lint

fmt:
	clang-format-14 -i $(C_FILES)

# ---- demonstration and benchmarks ----------------------------------------------------------------

.PHONY: run stop bench
run:
	@tools/deps build demo
	@$(MAKE) $(JOBS) --no-print-directory all
	@B='$(B)' tools/demo

stop:
	@$(B)/corallite down --dir $(B)/demo

BENCH_BINS := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/*.c))
$(B)/bench/%: $(B)/obj/bench/%.o $(B)/libpageserver.a $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(DAEMON_LIBS) -llmdb -lsqlite3 -lm
bench: $(BENCH_BINS)
	@for program in $(BENCH_BINS); do echo "== $$program"; $$program || exit 1; done

# ---- installation --------------------------------------------------------------------------------

bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib/corallite
mandir = $(DESTDIR)$(PREFIX)/share/man/man1
BINARIES := corallite corallite-pageserver corallite-safekeeper

.PHONY: install uninstall clean
install: all
	@mkdir -p $(bindir) $(libdir) $(mandir)
	@for name in $(BINARIES); do install -m 0755 $(B)/$$name $(bindir)/$$name || exit 1; done
	@install -m 0644 $(B)/corallite.so $(libdir)/corallite.so
	@$(B)/corallite help --man >$(B)/corallite.1 && install -m 0644 $(B)/corallite.1 $(mandir)/corallite.1
	@echo "installed $(BINARIES) to $(bindir), corallite.so to $(libdir)"

uninstall:
	@for name in $(BINARIES); do rm -f $(bindir)/$$name; done
	@rm -f $(libdir)/corallite.so $(mandir)/corallite.1
	@-rmdir $(libdir) 2>/dev/null
	@echo "removed $(BINARIES) and corallite.so below $(DESTDIR)$(PREFIX)"

# A cluster that `make run` left running is stopped first: its data lies under $(B).
clean:
	@if [ -x $(B)/corallite ] && [ -e $(B)/demo/cluster ]; then $(B)/corallite down --dir $(B)/demo; fi
	rm -rf $(B)
