# Corallite. `make` builds the four products; `make run` shows them at work; `make test` checks them.
# One non-recursive Makefile; everything that is made lies under $(B). `make help` lists the targets.
# `make V=1` shows the commands. Nothing here runs a compiler while the file is read: tools/deps may
# have to install one first.

B      ?= build
PREFIX ?= /usr/local
CC     ?= cc
PROTOC_C ?= protoc-c

VERSION := 0.1.0

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wcast-align \
        -Wimplicit-fallthrough -Wformat=2 -Wvla -Wundef -Werror
HARD := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fno-strict-aliasing \
        -fno-delete-null-pointer-checks
OPT  ?= -O2 $(HARD)
CFLAGS   ?= -g
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -DCO_BUILD_VERSION='"$(VERSION)"' $(OPT) $(CFLAGS) -fPIC \
             -fvisibility=hidden -pthread $(WARN) $(EXTRA)
CPPFLAGS = -I. -I$(B)/gen
ALL_LDFLAGS = -pthread -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS) $(EXTRA)

# The products, and what each links beside our own libraries.
DAEMON_LIBS := -luv -lmicrohttpd -lprotobuf-c -lzstd -lcrypto
VFS_LIBS    := -lprotobuf-c -lzstd -lcrypto
PRODUCTS := $(B)/corallite $(B)/corallite-pageserver $(B)/corallite-safekeeper $(B)/corallite.so

# One short line a file, or with V=1 the command itself.
ifeq ($(V),1)
say :=
Q   :=
else
say = @printf '  %-5s %s\n' '$(1)' '$(2)';
Q   := @
endif

.PHONY: all
all: $(PRODUCTS)

# A half-written output of an interrupted recipe must not pass for a finished one.
.DELETE_ON_ERROR:
# Objects between a source and a program are kept, so that the next run need not make them again.
.SECONDARY:

# ---- dependencies: checked once a build directory (make DEPS=no leaves it out) -------------------

$(B)/.deps: tools/deps
	@mkdir -p $(@D)
	@$(if $(filter no,$(DEPS)),:,tools/deps build)
	@touch $@

# ---- sources -------------------------------------------------------------------------------------

MODULES := common proto archive safekeeper pageserver compute-vfs cli
src      = $(sort $(wildcard $(1)/*.c))
# What begins a process or stands before another library is linked where it is meant only.
lib_src  = $(filter-out %/main.c %/preload.c,$(call src,$(1)))
objs     = $(patsubst %.c,$(B)/obj/%.o,$(1))

GEN_H := $(B)/gen/proto/corallite.pb-c.h
GEN_C := $(B)/gen/proto/corallite.pb-c.c

# Both by one run (&): with a rule of its own that does nothing, what includes the header would be made anew one `make` too late.
$(GEN_C) $(GEN_H) &: proto/corallite.proto | $(B)/.deps
	$(call say,GEN,$(GEN_C))mkdir -p $(@D)
	$(Q)$(PROTOC_C) --c_out=$(B)/gen $<

$(B)/obj/gen.o: $(GEN_C)
	$(call say,CC,$<)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(OPT) $(CFLAGS) $(EXTRA) -fPIC -fvisibility=hidden -w -c $< -o $@

$(B)/obj/%.o: %.c $(GEN_H)
	$(call say,CC,$<)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The description of the HTTP API lies in the pageserver as it is (pageserver/v1_openapi.c).
$(B)/obj/pageserver/v1_openapi.o: docs/openapi.json

# The tool is a proposer when it changes the members of a log (cli/member_log_sock.c).
PROPOSER := $(call objs,$(wildcard compute-vfs/proposer*.c))

define module_lib
$(B)/lib$(1).a: $(call objs,$(call lib_src,$(1))) $(if $(filter proto,$(1)),$(B)/obj/gen.o) \
    $(if $(filter cli,$(1)),$(PROPOSER))
	$$(call say,AR,$$@)rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module_lib,$(m))))

BASE := $(B)/libarchive.a $(B)/libproto.a $(B)/libcommon.a

$(B)/corallite-safekeeper: $(call objs,safekeeper/main.c) $(B)/libsafekeeper.a $(BASE)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(DAEMON_LIBS)
$(B)/corallite-pageserver: $(call objs,pageserver/main.c) $(B)/libpageserver.a $(BASE)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(DAEMON_LIBS) -llmdb -ljansson
$(B)/corallite: $(call objs,cli/main.c) $(B)/libcli.a $(BASE)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(VFS_LIBS) -ljansson -lsqlite3
# The extension exports its entry point and, for LD_PRELOAD, the sqlite3_open functions; SQLite
# itself comes from the program that loads it.
$(B)/corallite.so: $(call objs,$(call src,compute-vfs)) $(BASE)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) -shared -Wl,--exclude-libs,ALL $^ -o $@ $(VFS_LIBS)

# ---- tests ---------------------------------------------------------------------------------------

UNIT_MODULES := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard tests/unit/*/*.c)))))
UNIT_BINS    := $(patsubst %,$(B)/tests/unit-%,$(UNIT_MODULES))

# A module's unit tests link the module (the very objects of the product), never its main.c. SHIM=yes
# puts tests/sanitized/shim in Criterion's place, for ThreadSanitizer.
CRITERION = $(if $(SHIM),$(B)/obj/tests/sanitized/shim/shim.o,-lcriterion)
ifdef SHIM
CPPFLAGS += -Itests/sanitized/shim
$(UNIT_BINS) $(B)/tests/canary: $(B)/obj/tests/sanitized/shim/shim.o
endif
define unit_bin
$(B)/tests/unit-$(1): $(call objs,$(wildcard tests/unit/$(1)/*.c) $(if $(SHIM),,tests/sanitized/patience.c)) \
    $(if $(filter-out common proto,$(1)),$(B)/lib$(1).a) $(BASE)
	$$(call say,LINK,$$@)mkdir -p $$(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $$(filter-out %/shim.o,$$^) -o $$@ $$(CRITERION) $(DAEMON_LIBS) -llmdb -lsqlite3 \
	    -ljansson -lm
endef
$(foreach m,$(UNIT_MODULES),$(eval $(call unit_bin,$(m))))

# Programs of the integration tests: stock users of SQLite, nothing of ours linked in. Those named
# stock_* share lib/stock.c.
INTEGRATION_BINS := $(patsubst tests/integration/%.c,$(B)/tests/integration/%,$(wildcard tests/integration/*.c))
$(filter $(B)/tests/integration/stock_%,$(INTEGRATION_BINS)): $(B)/obj/tests/integration/lib/stock.o
$(B)/tests/integration/%: $(B)/obj/tests/integration/%.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ -lsqlite3 -lm

# Stands before libc in a daemon under test: its syncs of the log fail while a file says so.
$(B)/tests/integration/fsync_fails.so: $(B)/obj/tests/integration/lib/fsync_fails.o
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared $^ -o $@

# Tests that must fail, so that the runner proves that it sees failures (tests/canary/README.md).
$(B)/tests/canary: $(call objs,$(wildcard tests/canary/*.c))
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $(filter-out %/shim.o,$^) -o $@ $(CRITERION)

# The simulator drives the products' own core objects.
SIM_CORES := $(call objs,$(wildcard safekeeper/acceptor*.c compute-vfs/proposer*.c))
$(B)/tests/sim: $(call objs,$(wildcard tests/sim/*.c)) $(SIM_CORES) $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ -lprotobuf-c -lzstd -lcrypto -lm

# Level C: the product's storage on a simulated disk. The linker leads its file system calls there.
CRASH_CALLS := open close read pread pwrite fsync fdatasync ftruncate lseek rename unlink rmdir mkdir \
               stat fstat opendir readdir closedir
$(B)/tests/simc: $(call objs,$(wildcard tests/crash/*.c)) $(B)/libsafekeeper.a $(BASE)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $(CRASH_CALLS:%=-Wl,--wrap=%) $^ -o $@ $(DAEMON_LIBS)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

# ---- everything else (fmt, lint, test, sim, mutations, run, install, ...) -------------------------

include tools/targets.mk
-include tools/sim.mk
-include tools/fullsim.mk
include tools/sqlite.mk
include tools/fuzz.mk
include tools/bench.mk
