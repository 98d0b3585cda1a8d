"""What is done to the field, and when: a mix names the steps, a seed draws from them, and so a schedule can be had again.

plan(mix, seed, seconds) is a list of Step: at which second, what, to whom, for how long. Nothing in it depends on how the
run goes, but for which writer is in COMMIT at that moment. MIXES has the mixes: the steps of each with their weights.
"""

import os
import random
import signal
import time
from collections import Counter, namedtuple

from lib.cluster import NODES, PAGESERVER, Failure

Step = namedtuple("Step", "at what who seconds")

PLACES = ("a", "b", "hub")
CLIENTS = tuple(range(8))
PAUSE = (0.4, 0.8, 1.2, 2.0)   # from one step to the next
LONG = (0.2, 0.5, 1.0, 2.0, 3.5)

# -- what there is to do: a function draws to whom and how long; the method of Nemesis of the same name does it


def some(r, one=6, two=2, three=0):
    """Safekeepers."""
    return tuple(r.sample(NODES, r.choices((1, 2, 3), (one, two, three))[0]))


def kill_safekeepers(r):
    return some(r, 6, 3, 1), r.choice(LONG)


def kill_pageserver(r):
    return (PAGESERVER,), r.choice(LONG[:4])


def kill_client(r):
    return (r.choice(CLIENTS),), 0


def kill_writer(r):
    """One that is in COMMIT at that moment."""
    return ("in commit",), 0


def catches(pid, number):
    """Has the process a handler for that signal?"""
    with open(f"/proc/{pid}/status") as f:
        caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt:"))
    return bool(caught >> (number - 1) & 1)


def restart(r):
    """SIGTERM, and again."""
    return (r.choice(NODES + NODES + (PAGESERVER,)),), r.choice((0, 0.2, 1.0))


def pause_safekeepers(r):
    return some(r, 6, 3, 1), r.choice(LONG)


def pause_pageserver(r):
    return (PAGESERVER,), r.choice(LONG[:4])


def pause_client(r):
    """Beyond its lease too."""
    return (r.choice(CLIENTS),), r.choice(LONG + (5.0,))


def pause_writer(r):
    """In COMMIT: what it has sent is there or not, and others go on before it wakes."""
    return ("in commit",), r.choice(LONG + (5.0,))


def links(r, command, wide):
    """Of one place, to one daemon or to several; a host without any of its safekeepers is one such."""
    place = r.choice(PLACES)
    nodes = some(r, *(wide if place != "hub" else (3, 1, 1)))
    if place != "hub" and r.random() < 0.25:
        nodes = (*nodes, PAGESERVER)
    return (place, nodes, command), r.choice((0.2, 0.5, 1.3, 2.0, 3.5) if command.startswith("cut") else LONG[:4])


def partition(r):
    return links(r, "cut", (4, 3, 2))


def partition_node(r):
    """One daemon, from everybody."""
    return ("*", (r.choice(NODES + (PAGESERVER,)),), "cut"), r.choice(LONG)


def cut_answers(r):
    """Requests arrive and answers do not: commits that are there, of which nobody hears."""
    return links(r, "cut out", (2, 4, 3))


def cut_requests(r):
    return links(r, "cut in", (2, 4, 3))


def fence(command, nodes, seconds):
    """The host of a writer that is in COMMIT loses the safekeepers for longer than its lease: the other host takes over,
    and what has not arrived by then never will."""
    return ("writer's", nodes, command), seconds


def fence_off(r):
    return fence("cut", some(r, 0, 1, 2), r.choice((3.3, 4.5)))


def fence_answers(r):
    """Here it arrives."""
    return fence("cut out", some(r, 0, 1, 2), r.choice((3.3, 4.5)))


def fence_requests(r):
    """Here it does not."""
    return fence("cut in", NODES, 4.5)


def fence_stall(r):
    """Here it arrives when the other host has long taken over."""
    return fence("stall in", NODES, 4.5)


def minority_tail(r):
    """What the writer's host sends arrives at one safekeeper alone, which is killed then and comes back when the other
    host has written on without it."""
    return ("writer's", tuple(r.sample(NODES, 3)), "cut in"), 4.5


def delay(r):
    return links(r, f"delay {r.choice((5, 20, 100, 400))} {r.choice(('in', 'out', ''))}".strip(), (3, 2, 2))


def jitter(r):
    return links(r, f"jitter {r.choice((5, 20, 100, 400))}", (3, 2, 2))


def stall(r):
    return links(r, f"stall {r.choice(('in', 'out', ''))}".strip(), (4, 3, 2))


def reset(r):
    return links(r, "reset", (2, 2, 4))


def half_open(r):
    return links(r, "halfopen", (3, 2, 2))


def refuse(r):
    return links(r, "refuse", (4, 2, 1))


def corrupt(r):
    return links(r, f"corrupt {r.choice(('in', 'out'))}", (3, 2, 2))


def power_safekeepers(r):
    return some(r, 6, 2, 1), r.choice((0, 0.3, 1.0))


def power_pageserver(r):
    return (PAGESERVER,), r.choice((0, 0.3, 1.0))


def power_all(r):
    return NODES + (PAGESERVER,), r.choice((0, 0.3))


def full_safekeepers(r):
    return some(r, 6, 3, 0), r.choice(LONG[1:])


def full_pageserver(r):
    return (PAGESERVER,), r.choice(LONG[1:])


JUMPS = (-90, -30, -2, -0.3, 0.3, 2, 30, 90)  # seconds; a writer that is a minute off is refused


def clock_safekeepers(r):
    return (some(r, 6, 3, 1), r.choice(JUMPS)), r.choice(LONG)


def clock_pageserver(r):
    return ((PAGESERVER,), r.choice(JUMPS)), r.choice(LONG)


def clock_client(r):
    return ((r.choice(CLIENTS),), r.choice(JUMPS)), r.choice(LONG)


def clock_writer(r):
    """One that is in COMMIT at that moment, by less than what is refused."""
    return (("in commit",), r.choice(JUMPS[1:-1])), r.choice(LONG)


KILLS = {kill_safekeepers: 3, kill_pageserver: 1.5, kill_writer: 2}
NETWORK = {partition: 2, partition_node: 1, cut_answers: 2, cut_requests: 2, fence_off: 1, fence_answers: 1,
           fence_requests: 1, fence_stall: 1, minority_tail: 1, delay: 1, jitter: 1, stall: 1.5, reset: 1.5, half_open: 1,
           refuse: 1, corrupt: 1}
DISKS = {power_safekeepers: 1.5, power_pageserver: 0.7, power_all: 0.5, full_safekeepers: 1.5, full_pageserver: 0.7}
CLOCKS = {clock_safekeepers: 2, clock_pageserver: 1, clock_client: 1, clock_writer: 2}
PAUSES = {pause_safekeepers: 3, pause_pageserver: 1, pause_client: 1, pause_writer: 2}

MIXES = {
    "none": {},
    "kill-safekeepers": {kill_safekeepers: 1},
    "kill-pageserver": {kill_pageserver: 1},
    "kill-clients": {kill_writer: 3, kill_client: 1},
    "restarts": {restart: 1},
    "pauses": PAUSES,
    "partitions": {partition: 3, partition_node: 2, fence_off: 1},
    "one-way": {cut_answers: 3, cut_requests: 3, fence_answers: 1, fence_requests: 2, minority_tail: 1},
    "slow": {delay: 2, jitter: 2, stall: 2, fence_stall: 1},
    "broken-connections": {reset: 3, half_open: 2, refuse: 2, corrupt: 2},
    "power-loss": {power_safekeepers: 4, power_pageserver: 2, power_all: 1},
    "disk-full": {full_safekeepers: 3, full_pageserver: 1},
    "clocks": CLOCKS,
    "everything": {**KILLS, restart: 1, **PAUSES, **NETWORK, **DISKS, **CLOCKS},
}


def needs_disks(mix):
    return bool(set(MIXES[mix]) & set(DISKS))


def needs_clocks(mix):
    return bool(set(MIXES[mix]) & set(CLOCKS))


def plan(mix, seed, seconds):
    """The schedule: each step of the mix once, in any order, and then as they are drawn."""
    r, steps, at = random.Random(f"{mix} {seed}"), [], 0.5
    choices = MIXES[mix]
    first = r.sample(list(choices), len(choices))
    while choices and at < seconds - 1:
        draw = first.pop() if first else r.choices(list(choices), list(choices.values()))[0]
        who, how_long = draw(r)
        steps.append(Step(round(at, 2), draw.__name__, who, how_long))
        at += r.choice(PAUSE)
        if r.random() < 0.08:
            at += 2.0  # now and then nothing is wrong
    return steps


class Nemesis:
    """Carries a plan out. It heals each step after its time, and everything at the end."""

    def __init__(self, field, clients, steps, diary):
        self.field, self.clients, self.steps = field, clients, list(steps)
        self.due = []             # (when, what, function, args)
        self.down, self.stopped = Counter(), Counter()  # node: how many steps hold it so
        self.bad = Counter()      # (place, node): the same
        self.expected = set()     # nodes that may have ended by themselves: their disk was at fault
        self.counts = Counter()
        self.surprises = []       # what ended and should not have
        self.diary = open(diary, "w", buffering=1)
        self.began = time.monotonic()

    def wrote(self, *words):
        self.diary.write(f"{time.monotonic() - self.began:8.3f} {' '.join(map(str, words))}\n")

    def later(self, seconds, what, function, *args):
        self.due.append((time.monotonic() + seconds, what, function, args))

    def run(self, seconds):
        self.began = time.monotonic()
        while True:
            now = time.monotonic() - self.began
            self.heal_due()
            if self.steps and self.steps[0].at <= now:
                step = self.steps.pop(0)
                self.wrote("do", step.what, step.who, step.seconds)
                self.counts[step.what] += 1
                getattr(self, step.what)(step.who, step.seconds)
            elif now > seconds:
                break
            else:
                time.sleep(0.01)
                self.look()
        self.calm()

    def heal_due(self, all_of_them=False):
        now = time.monotonic()
        ready = [d for d in self.due if all_of_them or d[0] <= now]
        self.due = [d for d in self.due if not any(d is r for r in ready)]
        for _, what, function, args in ready:
            self.wrote("heal", what, *args)
            function(*args)

    def calm(self):
        self.heal_due(all_of_them=True)
        self.look()
        for proxy in self.field.link.values():
            proxy.do("resume")

    def look(self):
        """Whoever ended without our doing."""
        for node in self.field.process:
            if not self.down[node] and not self.field.alive(node):
                self.ended(node)
                self.field.start(node, wait=False)
        for number, process in self.clients.process.items():
            if process.poll() is not None:
                self.surprises.append(f"client {number} ended with status {process.returncode}: "
                                      f"{self.clients.last_words(number)}")
                self.clients.start(number)

    def ended(self, node):
        status = self.field.process[node].returncode
        self.wrote("ended", node, status, self.field.last_words(node, 1)[-300:])
        if node in self.expected and status > 0:
            self.counts["ended by itself"] += 1
        else:
            self.surprises.append(f"daemon {node} ended with status {status}: {self.field.last_words(node)}")

    # -- processes

    def take_down(self, nodes, seconds, how):
        for node in nodes:
            if not self.down[node]:
                self.cont(node)
                if not self.field.alive(node):
                    self.ended(node)
                else:
                    how(node)
            self.down[node] += 1
            self.later(seconds, "back", self.back, node)

    def back(self, node):
        self.down[node] -= 1
        if not self.down[node]:
            self.field.start(node, wait=False)

    def kill_safekeepers(self, nodes, seconds):
        self.take_down(nodes, seconds, self.field.kill9)

    kill_pageserver = kill_safekeepers

    def restart(self, nodes, seconds):
        self.take_down(nodes, seconds, self.terminate)

    def terminate(self, node):
        """A clean stop, within a bound. One that was started a moment ago may not have got as far as to its handlers."""
        process = self.field.process[node]
        fine = (0,) if catches(process.pid, signal.SIGTERM) else (0, -signal.SIGTERM)
        process.terminate()
        try:
            if process.wait(10) not in fine:
                self.surprises.append(f"{node} ended with status {process.returncode} after SIGTERM: "
                                      f"{self.field.last_words(node)}")
        except Exception:  # noqa: B902 - TimeoutExpired
            self.surprises.append(f"{node} did not end within 10 s of SIGTERM")
            self.field.kill9(node)

    def place(self, who):
        return self.clients.in_commit() if who == "in commit" else who

    def kill_client(self, who, _):
        place = self.place(who[0])
        self.wrote("client", place, self.clients.number[place])
        self.clients.replace(place)

    kill_writer = kill_client

    def pause_safekeepers(self, nodes, seconds):
        for node in nodes:
            if not self.down[node] and self.field.alive(node):
                if not self.stopped[node]:
                    os.kill(self.field.pid(node), signal.SIGSTOP)
                self.stopped[node] += 1
                self.later(seconds, "continue", self.continued, node, self.field.pid(node))

    pause_pageserver = pause_safekeepers

    def continued(self, node, pid):
        if self.stopped[node] and self.field.pid(node) == pid:
            self.stopped[node] -= 1
            if not self.stopped[node]:
                os.kill(pid, signal.SIGCONT)

    def cont(self, node):
        if self.stopped[node]:
            self.stopped[node] = 0
            os.kill(self.field.pid(node), signal.SIGCONT)

    def pause_client(self, who, seconds):
        place = self.place(who[0])
        process = self.clients.process[place]
        self.wrote("client", place, self.clients.number[place])
        process.send_signal(signal.SIGSTOP)
        self.later(seconds, "continue client", process.send_signal, signal.SIGCONT)

    pause_writer = pause_client

    # -- the network

    def links(self, who, seconds):
        place, nodes, command = who
        if place == "writer's":
            place = self.clients.host(self.clients.in_commit())
            self.wrote("host", place)
        for (p, node), proxy in self.field.link.items():
            if place in (p, "*") and node in nodes:
                proxy.do(command)
                self.bad[(p, node)] += 1
                self.later(seconds, "resume", self.resume, p, node)

    partition = partition_node = cut_answers = cut_requests = links
    fence_off = fence_answers = fence_requests = fence_stall = delay = jitter = stall = links
    reset = half_open = refuse = corrupt = links

    def minority_tail(self, who, seconds):
        place, (alone, *others), command = who
        self.links((place, others, command), seconds)
        self.later(0.3, "kill who has it", self.take_down, (alone,), seconds + 1, self.field.kill9)

    def resume(self, place, node):
        self.bad[(place, node)] -= 1
        if not self.bad[(place, node)]:
            self.field.link[(place, node)].do("resume")

    # -- disks

    def power_safekeepers(self, nodes, seconds):
        self.expected.update(nodes)  # between the two, a sync may fail and be the end of it
        up = [n for n in nodes if not self.down[n]]
        for node in up:
            self.cont(node)
        self.field.lose_power(nodes)
        for node in nodes:
            self.down[node] += 1
            self.later(seconds, "power back", self.back, node)

    power_pageserver = power_all = power_safekeepers

    def full_safekeepers(self, nodes, seconds):
        self.expected.update(nodes)
        for node in nodes:
            self.field.disk[node].fill(leave=256 << 10)
            self.later(seconds, "make room", self.make_room, node)

    full_pageserver = full_safekeepers

    def make_room(self, node):
        self.field.disk[node].make_room()

    # -- wall clocks

    def clock_safekeepers(self, who, seconds):
        nodes, jump = who
        for node in nodes:
            self.jump(str(node), jump, seconds)

    clock_pageserver = clock_safekeepers

    def clock_client(self, who, seconds):
        (place,), jump = who
        place = self.place(place)
        self.wrote("client", place, self.clients.number[place])
        self.jump(f"client-{place}", jump, seconds)

    clock_writer = clock_client

    def jump(self, whose, seconds, how_long):
        self.field.clocks.jump(whose, seconds)
        self.later(how_long, "clock back", self.field.clocks.jump, whose, -seconds)

    def judge(self):
        if self.surprises:
            raise Failure(f"{len(self.surprises)} ended that should not have: {' | '.join(self.surprises[:3])}")
