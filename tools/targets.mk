# targets.mk - the phony targets of the Makefile: checks, tests, demonstration, installation.

C_FILES = $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h')

.PHONY: fmt
fmt:
	clang-format-14 -i $(C_FILES)

.PHONY: clean
clean:
	rm -rf $(B)
