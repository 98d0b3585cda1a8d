"""Steps of a long run, $JOBS (2) at a time: each a command with a log of its own, counted by what it says and by the
reports that came in it."""

import os
import queue
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)
CRITERION = re.compile(r"Tested: \S*?(\d+)\S* \| Passing: \S*?(\d+)\S* \| Failing: \S*?(\d+)\S* \| Crashing: \S*?(\d+)")


def counted(text):
    """(passed, failed, skipped) as a runner says at its end, or None."""
    found = COUNTS.findall(text)
    if found:
        return tuple(map(int, found[-1]))
    found = CRITERION.search(text)
    return (int(found[2]), int(found[3]) + int(found[4]), 0) if found else None


@dataclass
class Step:
    part: str
    name: str
    command: list
    env: dict = field(default_factory=dict)
    seconds: int = 3600
    options: dict = field(default_factory=dict)  # instead of the tool's own
    tests: int = 0                               # how many its sources have: fewer is a failure
    runs: tuple = ()                             # what it runs of the build directory beside the products


class Pool:
    """collect(log) reads and removes the files log.*: (reports about us, number of others)."""

    def __init__(self, kind, root, room, steps, collect):
        self.kind, self.root, self.room, self.steps, self.collect = kind, root, room, steps, collect
        self.parts, self.foreign, self.before, self.reports = {}, 0, 0, 0
        self.lock, self.number = threading.Lock(), 0

    def new_log(self):
        """The beginning of the names of the files with reports; whoever the process is may write there."""
        with self.lock:
            self.number += 1
            folder = os.path.join(self.room, str(self.number))
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        return os.path.join(folder, "report")

    def count(self, part, passed, failed, skipped, seconds=0.0):
        row = self.parts.setdefault(part, [0, 0, 0, 0.0])
        for i, n in enumerate((passed, failed, skipped, seconds)):
            row[i] += n

    def told(self, step, good, text, seconds, ours, foreign):
        passed, failed, skipped = counted(text) or (int(good), int(not good), 0)
        good = good or (skipped > 0 and passed + failed == 0)  # a runner that did nothing fails
        if passed + failed + skipped < step.tests:
            text += f"\nnot ok: {step.tests} tests are in the sources, {passed + failed + skipped} were counted"
            good = False
        if (ours or not good) and not failed:
            failed = 1
        good = good and not ours
        with self.lock:
            self.foreign += foreign
            self.reports += len(ours)
            self.count(step.part, passed, failed, skipped, seconds)
            self.steps.note(step.name, self.steps.build(*step.runs), good, len(ours), [passed, failed, skipped], seconds)
            word = "not ok" if not good else "skip" if skipped and not passed else "ok"
            print(f"{word} {step.name}: {passed} passed, {failed} failed, {skipped} skipped ({seconds:.0f} s)"
                  f"{f', {len(ours)} reports' if ours else ''}", flush=True)
            for report in ours[:3]:
                print(report[:3000])
            if not good and not ours:
                why = [line[:400] for line in text.splitlines() if line.startswith("not ok") or "FAIL" in line or re.match(r" +\S+\.c:\d+: ", line)]
                print("\n".join(f"# {line}" for line in why[:8] or text[-1500:].splitlines()), flush=True)

    def run(self, step):
        with self.lock:
            before = self.steps.passed_before(step.name, self.steps.build(*step.runs))
            if before:
                self.before += 1
                self.count(step.part, *before)
                print(f"ok before: {step.name}", flush=True)
                return
        log, began = self.new_log(), time.monotonic()
        env = {**self.kind.environment(log, **step.options), **step.env}
        process = subprocess.Popen(step.command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        late = ""
        try:
            out = process.communicate(timeout=step.seconds)[0]
        except subprocess.TimeoutExpired:
            late = f"\nnot ok: not finished after {step.seconds} s"
            os.killpg(process.pid, signal.SIGTERM)
            try:
                out = process.communicate(timeout=60)[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out = process.communicate()[0]
        seconds = time.monotonic() - began
        text = out.decode(errors="replace") + late
        self.told(step, process.returncode == 0 and not late, text, seconds, *self.collect(log))

    def run_all(self, todo):
        waiting = queue.Queue()
        for step in todo:
            waiting.put(step)

        def worker():
            while True:
                try:
                    step = waiting.get_nowait()
                except queue.Empty:
                    return
                self.run(step)

        threads = [threading.Thread(target=worker) for _ in range(int(os.environ.get("JOBS", "2")))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def closing(self):
        """Exit status; a line a part, and the totals."""
        for part, (passed, failed, skipped, seconds) in self.parts.items():
            print(f"# {part}: {passed} passed, {failed} failed, {skipped} skipped ({seconds:.0f} s)")
        passed, failed, skipped = (sum(row[i] for row in self.parts.values()) for i in range(3))
        print(f"# {self.reports} reports of ours, {self.foreign} without a frame of ours (stock programs); {self.before} steps had "
              f"passed before with this build")
        print(f"{passed} passed, {failed} failed, {skipped} skipped")
        return 0 if failed == 0 and passed else 1
