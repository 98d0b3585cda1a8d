# fuzz.mk - the decoders under libFuzzer (tests/fuzz/README.md): clang, ASan and UBSan, in a build
# directory of its own.
#
#   make fuzz [SECONDS=60] [F=frames]   each harness for so long, two at a time

FUZZ_NAMES := frames quorum records disk btree text archive
FUZZ_B     := $(B)/fuzz
# UBSan ends the process at the first report; libFuzzer's own runtime is linked to harnesses only.
FUZZ_SAN   := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_MAKE   = $(MAKE) $(JOBS) --no-print-directory B=$(FUZZ_B) CC=clang OPT='-O1 -fno-strict-aliasing' \
              EXTRA='$(FUZZ_SAN) -fsanitize=fuzzer-no-link'

.PHONY: fuzz fuzz-bins
fuzz:
	@tools/deps build fuzz
	@+$(FUZZ_MAKE) fuzz-bins
	@B=$(FUZZ_B) python3 tests/fuzz/run.py $(or $(SECONDS),60) $(F)

FUZZ_BINS := $(patsubst %,$(B)/tests/fuzz/%,$(FUZZ_NAMES) canary)
fuzz-bins: $(FUZZ_BINS) $(B)/tests/fuzz/seeds

# Two harnesses have a second file (tests/fuzz/fuzz.h).
$(B)/tests/fuzz/records: $(B)/obj/tests/fuzz/fuzz_pages.o
$(B)/tests/fuzz/text: $(B)/obj/tests/fuzz/fuzz_http.o

# A harness takes from the archives what it calls; the order is that of the layers.
FUZZ_LIBS := $(B)/libcli.a $(B)/libcompute-vfs.a $(B)/libpageserver.a $(B)/libsafekeeper.a $(BASE)
$(FUZZ_BINS): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/fuzz_%.o $(FUZZ_LIBS)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -pie $(filter %.o,$^) $(FUZZ_LIBS) -o $@ $(DAEMON_LIBS) -llmdb -ljansson -lsqlite3 -lm
$(B)/tests/fuzz/seeds: $(B)/obj/tests/fuzz/seeds.o $(FUZZ_LIBS)
	$(call say,LINK,$@)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie $^ -o $@ $(DAEMON_LIBS) -llmdb -ljansson -lsqlite3 -lm
