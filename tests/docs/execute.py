"""Carries out the blocks of one page, as they are written. Runs inside the page's room (room.py).

Two things are rewritten, because a test cannot wait an hour (tests/docs/README.md says so to writers):
a moment relative to now (-10m, '5 minutes ago') becomes CORALLITE_DOCS_SCALE seconds ago, and
<branch>-before-<the time in the page> the name that the last restore has printed.
"""

import os
import re
import signal
import subprocess
import time

from compare import differs

BLOCK_SECONDS = 90
SCALE = int(os.environ.get("CORALLITE_DOCS_SCALE", "3"))  # seconds that every relative moment stands for

MOMENT = re.compile(r"(?P<before>@|--(?:to|at)[ =]|\bat=|corallite_at *= *)(?P<quote>['\"]?)"
                    r"(?:-(?:\d+[smhdw])+\b|-?\d+ (?:second|minute|hour|day|week)s?(?: ago)?\b)")
KEPT = re.compile(r"\b([A-Za-z0-9._-]+-before-)\d{8}T\d{6}Z\b")
CODE = re.compile(r"#.*\bexit code (\d+)")

# Variables, directory and options go from block to block as in one terminal. ERR is called with the line
# of the page (the script has as many lines before it) for each command that failed; one whose line says
# `# exit code N` and ended with N may.
PREAMBLE = (r"""set -E -o pipefail; set -a; [ ! -e "$DOCS_STATE" ] || . "$DOCS_STATE"; """
            r"""trap 'c=$?; echo "$LINENO $c" >>"$DOCS_FAILED"; """
            r"""sed -n "${LINENO}p" "$DOCS_SCRIPT" | grep -qE "#.*exit code $c( |$|[:;,.])" || exit $c' ERR; """
            r"""trap '{ export -p | grep -v " DOCS_"; printf "cd %q\n" "$PWD"; } >"$DOCS_STATE"' EXIT; """)


class Wrong(Exception):
    def __init__(self, line, why):
        super().__init__(why)
        self.line = line


class Executor:
    def __init__(self, directory):
        self.dir = directory
        self.state = os.path.join(directory, "state")
        self.work = os.path.join(directory, "work")
        self.kept = {}  # "main-before-": the newest such name
        os.makedirs(self.work, exist_ok=True)

    def rewritten(self, text):
        text = MOMENT.sub(lambda m: f"{m['before']}{m['quote']}-{SCALE}s", text)
        return KEPT.sub(lambda m: self.kept.get(m[1], m[0]), text)

    def block(self, block):
        """Runs one; Wrong when it did not do what the page says."""
        if block.word("time passes") is not None:
            time.sleep(SCALE + 0.5)
        text = self.rewritten(block.text)
        file = os.path.join(self.dir, "block")
        with open(file, "w") as f:
            f.write("\n" * (block.line - 1) + text)
        status, printed = getattr(self, "run_" + block.language)(block, file)
        for stem, name in ((m[1], m[0]) for m in KEPT.finditer(printed)):
            self.kept[stem] = name
        tail = printed.strip()[-800:]
        if status is None:
            raise Wrong(block.line, f"not finished after {BLOCK_SECONDS} s; it printed: {tail}")
        if status:
            told = block.language == "sql" and block.output and re.search(
                r"^(Error|Parse error|Runtime error)", block.output.text, re.M)
            if not told:
                at = self.line_of_failure(block, printed)
                raise Wrong(at, f"ended with {status}: {self.source(block, at)}\n{tail}")
        if block.output:
            different = differs(self.rewritten(block.output.text), printed)
            if different:
                raise Wrong(block.output.line + different[0], f"{different[1]}\n{tail}")

    def source(self, block, line):
        lines = block.text.split("\n")
        at = line - block.line
        return lines[at].strip() if 0 <= at < len(lines) else ""

    def line_of_failure(self, block, printed):
        if block.language == "sh":
            failed = self.failures()
            return failed[-1][0] if failed else block.line
        found = re.findall(r"(?:near line |, line |on line |block:)(\d+)", printed)
        inside = [int(n) for n in found if block.line <= int(n) < block.line + block.text.count("\n")]
        return inside[-1] if inside else block.line

    # -- the languages --------------------------------------------------------------------------

    def call(self, args, stdin=os.devnull, env=None):
        """(status, what was printed on both streams in the page's order). Daemons that the block started
        may live on, so that the end of the output is not waited for, only that of the program."""
        out = os.path.join(self.dir, "out")
        with open(out, "wb") as o, open(stdin, "rb") as i:
            process = subprocess.Popen(args, stdin=i, stdout=o, stderr=o, cwd=self.work,
                                       env=env or os.environ, start_new_session=True)
        try:
            status = process.wait(BLOCK_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        with open(out, errors="replace") as f:
            return status, f.read()

    def failures(self):
        try:
            with open(os.path.join(self.dir, "failed")) as f:
                return [tuple(map(int, line.split())) for line in f]
        except FileNotFoundError:
            return []

    def run_sh(self, block, file):
        with open(file) as f:
            script = PREAMBLE + f.read()
        with open(file, "w") as f:
            f.write(script)
        failed = os.path.join(self.dir, "failed")
        open(failed, "w").close()
        env = dict(os.environ, DOCS_STATE=self.state, DOCS_FAILED=failed, DOCS_SCRIPT=file)
        status, printed = self.call(["bash", "--noprofile", "--norc", file], env=env)
        told = dict(self.failures())
        for number, line in enumerate(script.split("\n"), 1):
            said = CODE.search(line) if number >= block.line else None
            if said and status == 0 and told.get(number, 0) != int(said[1]):
                raise Wrong(number, f"the page says exit code {said[1]}, it was {told.get(number, 0)}: "
                                    f"{line.strip()}")
        # `set -e` is off: what the last command left is no verdict unless the trap ended the script.
        failed_last = status and self.failures() and self.failures()[-1][1] == status
        if failed_last and CODE.search(script.split("\n")[self.failures()[-1][0] - 1]):
            status = 0
        return status, printed

    def within_state(self, command, file):
        """A program sees the variables and the directory that the shell blocks have left."""
        script = f'[ ! -e "$DOCS_STATE" ] || . "$DOCS_STATE"; {command}'
        return self.call(["bash", "--noprofile", "--norc", "-c", script], stdin=file,
                         env=dict(os.environ, DOCS_STATE=self.state, DOCS_SCRIPT=file))

    def run_sql(self, block, file):
        database = block.word("database") or "shop"
        return self.within_state(f"corallite sql '{database}' -batch -bail", file)

    def run_python(self, block, file):
        return self.within_state("/usr/bin/python3 -", file)

    def run_php(self, block, file):
        # Nothing but what opens it may stand before the program.
        with open(file) as f:
            text = f.read().lstrip("\n")
        with open(file, "w") as f:
            f.write(text)
        return self.within_state('php -d sqlite3.extension_dir="$(dirname "$CORALLITE_EXTENSION")"', file)

    def run_ruby(self, block, file):
        return self.within_state("ruby -", file)

    def run_perl(self, block, file):
        return self.within_state("perl -", file)

    def run_js(self, block, file):
        return self.within_state("node -", file)

    def run_c(self, block, file):
        return self.within_state('cc -o "$DOCS_SCRIPT.bin" -x c - -lsqlite3 && "$DOCS_SCRIPT.bin"', file)
