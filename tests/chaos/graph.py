"""Who comes before whom, and whether that can be: an order is there exactly when no cycle is.

Nodes are transactions and, so that real time costs one edge a transaction and not one a pair, the moments at which
one ended: each moment comes before the next; a transaction comes before the moment of its end, and after the newest
moment before its begin.
"""

from bisect import bisect_left
from collections import deque


class Graph:
    def __init__(self):
        self.txns = []      # node -> Txn, None for a moment
        self.node = {}      # id(Txn) -> node
        self.out = []       # node -> [(node, why)]
        self.edges = 0

    def add(self, txn):
        self.node[id(txn)] = len(self.txns)
        self.txns.append(txn)
        self.out.append([])
        return len(self.txns) - 1

    def edge(self, a, b, why):
        """a, b: Txn. why: (kind, what) with kind ww, wr, rw, session."""
        if a is not b:
            self.out[self.node[id(a)]].append((self.node[id(b)], why))
            self.edges += 1

    def real_time(self):
        """Strict reads come after all that was acknowledged before their begin, stale ones after what was so
        before their begin less what they may be behind."""
        ended = sorted((t for t in self.txns if t is not None), key=lambda t: t.end)
        ends = [t.end for t in ended]
        first = len(self.txns)
        why = ("rt", "ended before the other began")
        for i, txn in enumerate(ended):
            self.txns.append(None)
            self.out.append([(first + i + 1, why)] if i + 1 < len(ended) else [])
            self.out[self.node[id(txn)]].append((first + i, why))
        for txn in ended:
            before = bisect_left(ends, txn.begin - txn.stale_ns) - 1
            if before >= 0:
                self.out[first + before].append((self.node[id(txn)], why))

    def components(self):
        """Strongly connected ones of more than one node: Tarjan's, without recursion."""
        n = len(self.out)
        index, low, on = [-1] * n, [0] * n, [False] * n
        stack, counter, found = [], 0, []
        for root in range(n):
            if index[root] >= 0:
                continue
            work = [(root, 0)]
            while work:
                v, i = work.pop()
                if i == 0:
                    index[v] = low[v] = counter
                    counter += 1
                    stack.append(v)
                    on[v] = True
                out = self.out[v]
                while i < len(out):
                    w = out[i][0]
                    i += 1
                    if index[w] < 0:
                        work.append((v, i))
                        work.append((w, 0))
                        break
                    if on[w]:
                        low[v] = min(low[v], index[w])
                else:
                    if work:
                        parent = work[-1][0]
                        low[parent] = min(low[parent], low[v])
                    if low[v] == index[v]:
                        component = []
                        while True:
                            w = stack.pop()
                            on[w] = False
                            component.append(w)
                            if w == v:
                                break
                        if len(component) > 1:
                            found.append(component)
        return found

    def cycle(self, component, tries=40):
        """A short cycle in it: [(Txn, kind, what)...], each edge leading to the next one's transaction."""
        inside = set(component)
        best = None
        for start in [v for v in component if self.txns[v] is not None][:tries]:
            came, queue = {}, deque([start])
            while queue and start not in came:
                v = queue.popleft()
                for w, why in self.out[v]:
                    if w in inside and w not in came:
                        came[w] = (v, why)
                        queue.append(w)
            steps, w = [], start
            while True:
                v, why = came[w]
                steps.append((self.txns[v], *why))
                w = v
                if v == start:
                    break
            steps.reverse()
            if best is None or len(steps) < len(best):
                best = steps
        # Moments are no transactions: a path through them is one step in real time.
        return [s for s in best if s[0] is not None]
