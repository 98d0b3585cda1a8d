# sim.mk - the simulator of the quorum log (tests/sim/README.md): many seeds, one seed, mistakes.

SEED ?= 1
RUNS ?= 2000

# make sim SEED= RUNS= : the product's own cores under RUNS seeds from SEED on.
.PHONY: sim
sim: $(B)/tests/sim
	$(B)/tests/sim --seed $(SEED) --runs $(RUNS) --shrink

# make sim-ranges FROM= COUNT= STEP= LOG= : seeds FROM to FROM + COUNT - 1 in steps, each noted in LOG when it is
# done; begun again, it goes on where LOG ends.
FROM  ?= 1
COUNT ?= 1000000
STEP  ?= 20000
LOG   ?= $(B)/sim-ranges.log
.PHONY: sim-ranges
sim-ranges: $(B)/tests/sim
	tools/sim-ranges $(B)/tests/sim $(LOG) $(FROM) $(COUNT) $(STEP) --keep-going

# The variant that can make the classic mistakes (common/mutation.h); its cores are no product.
MUT_SIM := $(B)/mutations/tests/sim
.PHONY: $(MUT_SIM)
$(MUT_SIM):
	+@$(MAKE) --no-print-directory B=$(B)/mutations EXTRA='$(EXTRA) -DCO_MUTATIONS' $@

# make mutations : every mistake must be found, from three starts that are drawn now.
.PHONY: mutations
mutations: $(MUT_SIM)
	$(MUT_SIM) --mutations

# make mutations-slow : with the three that need many seeds (half an hour).
.PHONY: mutations-slow
mutations-slow: $(MUT_SIM)
	$(MUT_SIM) --mutations --slow

# ---- level C: the safekeeper's storage on a simulated disk (tests/crash/README.md)

SECONDS ?= 20

# make simc SEED= SECONDS= : every life of two steps, rot of every byte, then lives by chance.
.PHONY: simc
simc: $(B)/tests/simc
	tests/crash/calls $(B) $(CRASH_CALLS)
	$(B)/tests/simc --seed $(SEED) --depth 2 --seconds $(SECONDS)

# Both, as `make test` counts them.
.PHONY: simc-test
simc-test:
	@tests/crash/run $(B) $(SECONDS)

# make simc-deep : every life of three steps (an hour).
.PHONY: simc-deep
simc-deep: $(B)/tests/simc
	$(B)/tests/simc --depth 3 --seconds 1

MUT_SIMC := $(B)/mutations/tests/simc
.PHONY: $(MUT_SIMC)
$(MUT_SIMC):
	+@$(MAKE) --no-print-directory B=$(B)/mutations EXTRA='$(EXTRA) -DCO_MUTATIONS' $@

# make simc-mutations : every mistake of storage must be found, from three starts that are drawn now.
.PHONY: simc-mutations
simc-mutations: $(MUT_SIMC)
	$(MUT_SIMC) --mutations --seed $$(date +%s)
