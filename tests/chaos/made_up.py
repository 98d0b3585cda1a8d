"""Sound histories of any size, made up: transactions that take effect one after the other, each at a moment between its
begin and its end, as seen by clients of which some are killed and some are told "unknown"."""

from history import uid

ACCOUNTS, EACH = 4, 100


class World:
    def __init__(self, r, transactions, clients=6):
        self.r = r
        self.lists, self.sets = {}, {}
        self.bank = {a: (0, EACH, 0) for a in range(ACCOUNTS)}
        self.past = []  # (time, lists, sets, bank): for reads with staleness
        self.events = [{"e": "meta", "accounts": ACCOUNTS, "each": EACH}]
        self.counter = 0
        free = [0] * clients  # when a client may begin again
        number = [0] * clients
        now = 1000
        for _ in range(transactions):
            now += r.randint(1, 50)
            c = min(range(clients), key=lambda i: free[i])
            begin = max(free[c] + 1, now - r.randint(0, 200))
            now = max(now, begin + 1)  # takes effect now
            end = now + r.randint(1, 200)
            number[c] += 1
            self.one(c + 1, number[c], begin, now, end)
            free[c] = end
        self.final(now + 100000)

    def value(self):
        self.counter += 1
        return self.counter

    def one(self, c, n, begin, now, end):
        kind = self.r.random()
        if kind < 0.25:
            self.read(c, n, begin, end, (self.lists, self.sets, self.bank), 0)
        elif kind < 0.35:
            bound = self.r.randint(1, 5)  # ms, of which the past has few: times here are small
            self.read(c, n, begin, end, (self.lists, self.sets, self.bank), bound)
        else:
            self.write(c, n, begin, end)

    def read(self, c, n, begin, end, state, stale_ms, **more):
        lists, sets, bank = state
        ops = [["r", k, list(v)] for k, v in lists.items() if more or self.r.random() < 0.5]
        ops += [["sr", k, sorted(v)] for k, v in sets.items() if more or self.r.random() < 0.5]
        ops += [["br", a, v[0], v[1], v[2]] for a, v in bank.items()]
        self.events.append({"e": "read", "c": c, "n": n, "k": 1, "t": begin, "end": end, "ops": ops, **more})
        if stale_ms:
            self.events[-1]["stale_ms"] = stale_ms

    def write(self, c, n, begin, end):
        r, me, ops, effects = self.r, uid(c, n), [], []
        mark = self.value()
        key = f"s{self.counter // 20}"
        ops.append(["sa", key, mark])
        effects.append(lambda: self.sets.setdefault(key, []).append(mark))
        if r.random() < 0.7:
            k = f"l{r.randint(0, 2)}"
            read = list(self.lists.get(k, ()))
            if r.random() < 0.5:
                ops.append(["r", k, list(read)])
            for _ in range(r.randint(1, 2)):
                v = self.value()
                ops.append(["a", k, v])
                read.append(v)
                effects.append(lambda k=k, v=v: self.lists.setdefault(k, []).append(v))
            if r.random() < 0.3:
                ops.append(["r", k, list(read)])
        if r.random() < 0.5:
            source, target = r.sample(range(ACCOUNTS), 2)
            for a, change in ((source, -1), (target, 1)):
                version, balance, last = self.bank[a]
                ops.append(["br", a, version, balance, last])
                ops.append(["bw", a, version + 1, balance + change])
                effects.append(lambda a=a, v=version, b=balance + change: self.bank.update({a: (v + 1, b, me)}))
        self.events.append({"e": "invoke", "c": c, "n": n, "k": 1, "t": begin, "ops": ops})
        outcome = r.choices(("ok", "fail", "unknown", "crashed"), (20, 2, 2, 1))[0]
        applied = outcome == "ok" or (outcome != "fail" and r.random() < 0.5)
        if applied:
            for effect in effects:
                effect()
        if outcome != "crashed":
            self.events.append({"e": outcome, "c": c, "n": n, "t": end})
        if outcome == "unknown":
            self.events[-1]["id"] = commit = f"1:{me:016x}"
            answer = "committed" if applied else "not committed"
            for when, told in ((end + 1, r.choice((answer, "unknown"))), (end + 1000000, answer)):
                self.events.append({"e": "status", "id": commit, "t": when, "answer": told})

    def final(self, now):
        self.read(0, 1, now, now + 1, (self.lists, self.sets, self.bank), 0, final=True)


def events(r, transactions=120):
    return World(r, transactions).events
