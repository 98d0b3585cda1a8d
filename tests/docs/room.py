"""The room that a page is carried out in: a network, processes and mounts of its own.

Inside, the loopback network is new, so that `corallite up` gets the ports that the page names, whatever
else runs on the machine; /srv is empty; HOME is; and when the room's first process ends the kernel ends
every other one. Nothing of a page can be left behind.

    room.py PAGE-FILE NAME DIRECTORY   (called by `run` under unshare; prints one JSON object a line)
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import execute  # noqa: E402
import pages  # noqa: E402

UNSHARE = ["unshare", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def command(file, name, directory):
    """What starts a room. Without root a user namespace gives the rights for it."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [*UNSHARE[:1], *as_root, *UNSHARE[1:], sys.executable, os.path.join(HERE, "room.py"), file, name,
            directory]


def say(**what):
    print(json.dumps(what), flush=True)


def prepare(directory):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/srv"], check=True)
    home = os.path.join(directory, "home")
    os.makedirs(home)
    for name in [n for n in os.environ if n.startswith("CORALLITE_") or n.startswith("XDG_")]:
        if not name.startswith("CORALLITE_DOCS_"):
            del os.environ[name]
    os.environ.update(HOME=home, LC_ALL="C.UTF-8", TMPDIR=directory)


def carry_out(file, name, directory):
    with open(file) as f:
        page = pages.parse(name, f.read())
    prepare(directory)
    executor = execute.Executor(directory)
    if "no cluster" not in page.words:
        up = subprocess.run(["corallite", "up"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=60)
        if up.returncode:
            say(line=1, why=f"corallite up ended with {up.returncode}: {up.stdout.strip()}")
            return
    for block in page.blocks:
        if block.language not in pages.RUN or block.word("not run") is not None:
            continue
        try:
            executor.block(block)
            say(ran=block.line, language=block.language, compared=block.output is not None)
        except execute.Wrong as wrong:
            say(line=wrong.line, why=str(wrong))
            return  # what follows builds on it
    say(done=True)


def main():
    # The first process of a room inherits the daemons, and has to take their ends: else they would seem
    # to live for ever.
    child = os.fork()
    if child == 0:
        carry_out(*sys.argv[1:4])
        os._exit(0)
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.stdout.flush()
            os._exit(os.waitstatus_to_exitcode(status) & 0xff)


if __name__ == "__main__":
    main()
