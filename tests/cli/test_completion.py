"""Completion: what is proposed, and that bash itself fills it in."""

import subprocess
import time

from lib import BIN, Terminal, check, matches, test


def proposed(room, line, **env):
    """What the scripts get for a line; the last word is the one that is being written."""
    done = room.run("completion", "--complete", "--", *line.split(" ")[1:], **env)
    check(f"completion of '{line}' is silent", done.returncode == 0 and done.stderr == "", done.stderr)
    return done.stdout.split("\n")[:-1]


@test
def what_is_proposed(room):
    room.ok("pin", "create", "shop", "good")
    room.ok("db", "create", "other")
    verbs = [v["name"] for v in room.json("help")]
    firsts = sorted({v.split()[0] for v in verbs})
    check("first words: each once", sorted(proposed(room, "corallite ")) == firsts,
          str(proposed(room, "corallite ")))
    for first in ("db", "branch", "pin"):
        seconds = sorted(v.split()[1] for v in verbs if v.startswith(first + " "))
        check(f"second words of {first}", sorted(proposed(room, f"corallite {first} ")) == seconds)
    for verb in room.json("help"):
        names = [o["name"] for o in verb["options"]] + ["--help"]
        check(f"options of {verb['name']}", proposed(room, f"corallite {verb['name']} -") == names)
    databases = [d["name"] for d in room.json("db", "list")]
    table = (
        ("corallite b", ["branch"]), ("corallite check sh", ["shop", "shop/"]), ("corallite zzz ", []),
        ("corallite export shop/", ["shop/side", "shop/main"]), ("corallite export shop/s", ["shop/side"]),
        ("corallite branch list ", databases), ("corallite branch drop ", [d + "/" for d in databases]),
        ("corallite sql shop@p", ["shop@pin:good"]), ("corallite sql shop@-1", ["shop@-1h"]),
        ("corallite pin drop shop ", ["good"]), ("corallite restore shop --to pin:", ["pin:good"]),
        ("corallite branch create shop/x --from s", ["side"]), ("corallite branch create shop/x --from=s", ["--from=side"]),
        ("corallite diff shop oth", ["other"]), ("corallite connect shop --lang p", ["python", "perl", "php"]),
        ("corallite logs sa", ["safekeeper-1", "safekeeper-2", "safekeeper-3"]), ("corallite import ", [":files"]),
        ("corallite export shop -o ", [":files"]), ("corallite up --dir ", [":dirs"]), ("corallite sql shop ", [":files"]),
        ("corallite help br", ["branch"]), ("corallite help branch re", ["rename", "reset"]),
        ("corallite completion ", ["bash", "zsh", "fish"]), ("corallite branch list other ", []))
    for line, wanted in table:
        got = proposed(room, line)
        check(f"'{line}'", sorted(got) == sorted(wanted), str(got))
    begin = time.monotonic()
    check("nothing without a server", proposed(room, "corallite sql ", CORALLITE_SERVER="127.0.0.1:1") == [])
    check("--server in the line is heeded", proposed(room, "corallite sql --server 127.0.0.1:1 sh") == [])
    check("and it does not keep anybody waiting", time.monotonic() - begin < 10)


@test
def bash_fills_it_in(room):
    script = room.ok("completion", "bash")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    check("the script for bash is one", done.returncode == 0, done.stderr)
    # Ctrl-A and Ctrl-K: the line is shown as it was completed, and not run.
    t = Terminal(["/bin/bash", "--norc", "--noprofile", "-i"],
                 {**room.env, "TERM": "xterm", "PS1": "ready> ", "INPUTRC": "/dev/null"}, room.dir, 24, 200)
    t.wait_for("ready> ")
    t.type(f"PATH={BIN}:$PATH; bind 'set enable-bracketed-paste off'; source <(corallite completion bash); echo so\\far\n")
    t.wait_for("sofar")
    for typed, wanted in (("corallite bra\tcre\tshop/si\t", "corallite branch create shop/side "),
                          ("corallite restore shop --to pin:g\t", "corallite restore shop --to pin:good "),
                          ("corallite sql shop@pi\t", "corallite sql shop@pin:good "),
                          ("corallite branch create shop/x --from=si\t", "corallite branch create shop/x --from=side "),
                          ("corallite export shop -o clus\t", "corallite export shop -o cluster")):
        t.text = ""
        t.type(typed)
        t.wait_for(wanted.replace("?", "\\?"), 20)
        t.type("\x01echo '\x05' | sed 's/^/</; s/$/>/'\n")
        t.wait_for(r"\n<.*>")
        matches(f"bash completes {typed!r}", "<" + wanted, t.text)
    t.type("exit\n")
    t.end()


@test
def scripts_of_other_shells(room):
    for shell in ("zsh", "fish"):
        matches(f"the script for {shell} asks the program", "completion --complete -- ", room.ok("completion", shell))
