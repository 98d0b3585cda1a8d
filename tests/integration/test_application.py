"""A real application from Debian, unpatched, with its data in Corallite."""

import os
import pty
import select
import shutil
import signal
import subprocess
import time

from lib.cluster import BIN, check, die_with_parent, popen, until
from lib.registry import test

CORALLITE = os.path.join(BIN, "corallite")
FEED = """<?xml version="1.0"?>
<rss version="2.0"><channel><title>Reef news</title><link>http://localhost/</link>
<description>What the corals do</description>
<item><title>Spawning</title><link>http://localhost/1</link><guid>one</guid>
<description>It was last night.</description><pubDate>Thu, 01 Jan 2026 10:00:00 GMT</pubDate></item>
<item><title>Bleaching</title><link>http://localhost/2</link><guid>two</guid>
<description>It is over.</description><pubDate>Fri, 02 Jan 2026 10:00:00 GMT</pubDate></item>
</channel></rss>
"""


class Home:
    """A person's home directory, with a cluster beside it that `corallite` looks after."""

    def __init__(self, directory):
        self.home, self.dir = os.path.join(directory, "home"), os.path.join(directory, "corallite")
        os.makedirs(self.home)
        self.env = dict(os.environ, HOME=self.home, CORALLITE_DIR=self.dir, TERM="xterm")
        for name in ("CORALLITE_SERVER", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            self.env.pop(name, None)

    def run(self, *words, seconds=60):
        process = popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True, env=self.env, cwd=self.home)
        out, err = process.communicate(timeout=seconds)
        check(process.returncode == 0, f"{' '.join(words)}: {out[-300:]} {err[-600:]}")
        return out.strip()

    def corallite(self, *words):
        return self.run(CORALLITE, *words)

    def daemons(self):
        """Their pids."""
        found = []
        for name in os.listdir(os.path.join(self.dir, "run")):
            with open(os.path.join(self.dir, "run", name)) as f:
                found.append(int(f.read().split()[0]))
        return found

    def __enter__(self):
        self.corallite("up", "--port-base", "auto")
        return self

    def __exit__(self, *_):
        self.corallite("down")


class Terminal:
    """A program on a terminal of 80 by 24."""

    def __init__(self, *words, env, cwd):
        ours, theirs = pty.openpty()
        subprocess.run(["stty", "rows", "24", "cols", "80"], stdin=theirs, check=False)

        def begin():
            die_with_parent()
            os.setsid()

        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env,
                                        cwd=cwd, preexec_fn=begin)
        os.close(theirs)
        self.fd = ours
        self.screen = ""

    def read(self, seconds=0.05):
        while select.select([self.fd], [], [], seconds)[0]:
            try:
                self.screen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                break
        return self.screen

    def shows(self, text, seconds=20):
        until(lambda: text in self.read(), seconds, f"{text!r} on the screen: {self.screen[-300:]!r}")

    def press(self, keys):
        os.write(self.fd, keys.encode())


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@test("newsboat from Debian, unpatched: works on its terminal with its cache in Corallite; no data file on "
      "the disk; kill -9 of it and of every daemon loses nothing", 90)
def newsboat(t):
    t.needs("newsboat", "stty")
    linked = subprocess.run(["ldd", shutil.which("newsboat")], capture_output=True, text=True)
    check("libsqlite3.so.0" in linked.stdout, "newsboat is not linked with libsqlite3 dynamically")
    with Home(t.dir) as h:
        folder = os.path.join(h.home, ".newsboat")
        cache = os.path.join(folder, "cache.db")
        os.makedirs(folder)
        with open(os.path.join(h.home, "feed.xml"), "w") as f:
            f.write(FEED)
        with open(os.path.join(folder, "urls"), "w") as f:
            f.write(f"file://{h.home}/feed.xml\n")

        # The control: alone it writes a file there.
        h.run("newsboat", "-x", "reload")
        check(os.path.exists(cache), "newsboat keeps its data elsewhere; this test shows nothing")
        for name in os.listdir(folder):
            if name.startswith("cache.db"):
                os.remove(os.path.join(folder, name))

        exec_ = (CORALLITE, "exec", "--default", "*/.newsboat/cache.db", "--")
        name = h.corallite("db", "name", cache)
        titles = "SELECT title FROM rss_item WHERE unread = 0 ORDER BY title"
        tui = Terminal(*exec_, "newsboat", "-r", env=h.env, cwd=h.home)
        tui.shows("Reef news")
        until(lambda: name in h.corallite("db", "list"), 20, f"the database {name}")
        until(lambda: h.corallite("sql", name, "SELECT count(*) FROM rss_item") == "2", 20,
              "both articles, seen from another process")
        check(h.corallite("sql", name, titles) == "", "nothing has been read yet")
        tui.press("\r")  # into the feed
        tui.shows("Bleaching")
        tui.press("\r")  # read its first article
        tui.shows("It is over.")
        tui.press("q")  # back in the list: it has been read
        until(lambda: tui.read() and h.corallite("sql", name, titles) == "Bleaching", 20,
              "the article is marked read")

        pids = [tui.process.pid, *h.daemons()]
        check(len(pids) == 5, f"newsboat and four daemons were expected: {pids}")
        check(all(not is_gone(pid) for pid in pids), "one of them had ended before")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        tui.process.wait(10)
        until(lambda: all(is_gone(pid) for pid in pids), 10, "all of them are dead")
        left = sorted(n for n in os.listdir(folder) if n not in ("urls", "cache.db.lock"))
        check(left == [], f"on the disk: {left}")

        began = time.monotonic()
        h.corallite("up")
        t.note(f"all five processes killed; up again after {time.monotonic() - began:.1f} s")
        check(h.corallite("sql", name, titles) == "Bleaching", "what had been read before the kill")
        check(h.run(*exec_, "newsboat", "-x", "print-unread") == "1 unread articles", "unread")
        # It goes on where it was, and its past is there.
        h.run(*exec_, "newsboat", "-X")
        h.corallite("pin", "create", name, "then")
        with open(os.path.join(h.home, "read.txt"), "w") as f:
            f.write("one\n")
        h.run(*exec_, "newsboat", "-I", "read.txt")
        check(h.run(*exec_, "newsboat", "-x", "print-unread") == "0 unread articles", "all is read")
        check(h.corallite("sql", f"{name}@pin:then", titles) == "Bleaching", "as it was before")
        check(not os.path.exists(cache), "a data file on the disk")
        check(h.corallite("sql", name, "PRAGMA integrity_check") == "ok", "integrity")
