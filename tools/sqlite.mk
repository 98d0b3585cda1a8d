# sqlite.mk - SQLite's own tests on Corallite (tests/sqlite/README.md).

SQLITE_LIBS = $(B)/libcompute-vfs.a $(B)/libcli.a $(BASE)

.PHONY: sqlite-harness sqlite-quarter sqlite-conformance sqlite-programs
sqlite-harness: all $(SQLITE_LIBS)
	@tools/deps build test sqlite
	@B='$(B)' CC='$(CC)' EXTRA='$(EXTRA)' tests/sqlite/build testfixture

# The fixed quarter of the scripts that make test runs: tests/sqlite/quarter.txt.
sqlite-quarter: sqlite-harness
	@tests/sqlite/rows_check.py
	@B='$(B)' tests/sqlite/run.py --quarter --out $(abspath $(B))/sqlite/quarter $(ARGS)

# All scripts, on Corallite and on the control, and the table out of both. ARGS=--resume: only what has no row of
# this build yet; ARGS='select1 fts5*': these again, in the place of their rows.
sqlite-conformance: sqlite-harness
	@B='$(B)' tests/sqlite/run.py --backend control $(ARGS)
	@B='$(B)' tests/sqlite/run.py --backend corallite $(ARGS)
	@B='$(B)' tests/sqlite/table.py

# speedtest1, kvtest, mptester with several processes, threadtest3.
sqlite-programs: all $(SQLITE_LIBS)
	@tools/deps build test sqlite
	@B='$(B)' CC='$(CC)' tests/sqlite/build speedtest1 kvtest mptester threadtest3
	@B='$(B)' tests/sqlite/programs.py $(ARGS)
