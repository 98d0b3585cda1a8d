"""The three tools that the suite runs under: what each is told, and what cannot run under it.

`patience` is the one place that says how much longer everything may take: it is $SLOWER of every step, and what has a
bound of time multiplies it (tests/integration/lib/cluster.py, tests/cli, tests/docs, tests/sqlite/run.py, shim/shim.c).
"""

import os
import subprocess
from dataclasses import dataclass, field

COMMON = "log_exe_name=1:allocator_may_return_null=1"


@dataclass
class Kind:
    name: str
    patience: int
    canaries: dict  # what canary.c is asked for: what a report of it says
    extension: str  # which of these canary_extension.c shows in the stock shell
    parts: dict = field(default_factory=dict)  # of `make test` that do not run under this tool: why
    tests: dict = field(default_factory=dict)  # of integration: the same
    unit_tests: dict = field(default_factory=dict)  # "module/suite/test" where shim/ runs them: the same
    leaks_not_looked_for: tuple = ()  # parts, and tests of integration
    library: str = ""
    options: dict = field(default_factory=dict)
    smaller: dict = field(default_factory=dict)  # variables by which tests are told to do or take less

    def environment(self, log, **options):
        """For every process of a step, whose reports go to files that begin with `log`. options: instead of the kind's."""
        more = {name: f"log_path={log}:{text}" for name, text in {**self.options, **options}.items()}
        return dict(os.environ, SLOWER=str(self.patience), LSAN_OPTIONS="exitcode=0", MEMCHECK_LOG=log, **self.smaller, **more)

    def options_of(self, name):
        """What a part or a test of integration is told instead of `options`."""
        if name not in self.leaks_not_looked_for:
            return {}
        return {"ASAN_OPTIONS": self.options["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")}

    def preload(self, bin_dir):
        """The same for stock programs that load something of ours: the tool's library comes before that (and first.c before it)."""
        if not self.library:
            return {}
        path = subprocess.run(["gcc", f"-print-file-name={self.library}"], capture_output=True, text=True, check=True).stdout
        return {"LD_PRELOAD": os.path.join(bin_dir, "tests/sanitized/first.so") + " " + os.path.realpath(path.strip())}


NOWHERE = {
    "docs": "the commands of the pages are those of cli, and what they print is compared to the byte",
    "mutations": "programs that are built to do wrong",
    "bench": "the driver of the benchmarks, no product",
}

ADDRESS = Kind(
    "address", 4, {"leak": r"leak of 4711 byte", "overrun": "heap-buffer-overflow", "undefined": "signed integer overflow"},
    "leak", library="libasan.so",
    # What comes before the library (first.so, and corallite.so with `corallite exec`) has no function of its kind.
    # C has one allocator to mix up; troff has two, and does, and ASan would end it.
    options={"ASAN_OPTIONS": f"{COMMON}:detect_leaks=1:verify_asan_link_order=0:alloc_dealloc_mismatch=0",
             "UBSAN_OPTIONS": "log_exe_name=1:print_stacktrace=1"},
    parts={**NOWHERE, "fuzz": "make fuzz builds it with ASan and UBSan anyway"},
    tests={"memory_runs_out": "it replaces malloc"},
    # Coroutines that may be killed anywhere: what such a one had is not given back. strace and LeakSanitizer both want ptrace.
    leaks_not_looked_for=("fullsim", "durable_write_at_two_safekeepers"))

THREAD = Kind(
    "thread", 8, {"race": "data race"}, "race", library="libtsan.so",
    options={"TSAN_OPTIONS": f"{COMMON}:history_size=4:die_after_fork=0:exitcode=0"},
    parts={
        **NOWHERE,
        "simc": "one thread, and every call that it makes is the simulator's",
        "fullsim": "one thread with coroutines, which the tool takes for stacks gone wild",
        "fuzz": "one thread",
        "sqlite": "a script uses one thread; programs with several are in integration",
    },
    tests={
        "memory_runs_out": "it replaces malloc",
        "durable_write_at_two_safekeepers": "strace waits for the tool's own thread, in vain",
    },
    # A forked child of a process with threads ends without a word when it starts one of its own ("dup thread with used id").
    smaller={"PAGE_DIFF_RUNS": "20", "STOCK_WITHOUT": "fork-and-go-on"})

MEMCHECK = Kind(
    "memcheck", 20, {"leak": "4,711 bytes", "overrun": "Invalid write"}, "leak",
    parts={
        **NOWHERE,
        "fullsim": "coroutines with stacks of their own, which the tool takes for stacks gone wild",
        "fuzz": "built with ASan, which does not run under valgrind",
        "sqlite": "it takes hours; ASan has it whole",
        "cli": "the command starts the daemons that lie beside it, not their doubles; its verbs are in integration",
    },
    tests={
        "memory_runs_out": "it replaces malloc",
        **dict.fromkeys(("diff_and_patch", "diff_equals_whole"),
                        "the tool has 80-bit floats with 64 bits, and SQLite's reals do not come back from their text"),
    },
    unit_tests={
        "pageserver/store/a_limited_address_space_makes_the_default_map_smaller":
            "the tool refuses a map that does not fit a limit of addresses with another error than the kernel",
    },
    smaller={"PAGE_DIFF_RUNS": "5", "MAP_SIZE": "16G"})  # it has 128 GiB of addresses for the program and itself

KINDS = {k.name: k for k in (ADDRESS, THREAD, MEMCHECK)}
