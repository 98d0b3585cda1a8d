"""The manual pages: each there, without a warning of groff or man, with the texts of --help."""

import os
import re
import subprocess
import tempfile

from lib import BIN, ROOT, check, matches, test


def plain(path):
    """A page as a person reads it, on one line."""
    done = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, text=True,
                          env={**os.environ, "MANWIDTH": "300", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    check(f"man finds nothing to warn of in {os.path.basename(path)}", done.returncode == 0 and done.stderr == "",
          done.stderr[:300])
    return " ".join(re.sub(".\b", "", done.stdout).split())


@test
def a_page_for_each_verb_and_daemon(room):
    with tempfile.TemporaryDirectory() as root:
        # What make install does, without building.
        pages = os.path.join(root, "pages")
        os.mkdir(pages)
        room.ok("help", "--man-dir", pages)
        for daemon in ("pageserver", "safekeeper"):
            done = subprocess.run([os.path.join(BIN, f"corallite-{daemon}"), "--man"], capture_output=True, text=True)
            check(f"{daemon} --man", done.returncode == 0, done.stderr)
            with open(os.path.join(pages, f"corallite-{daemon}.8"), "w") as f:
                f.write(done.stdout)
        files = sorted(os.listdir(pages))
        verbs = room.json("help")
        wanted = sorted(["corallite.1", "corallite-pageserver.8", "corallite-safekeeper.8"] +
                        [f"corallite-{v['name'].replace(' ', '-')}.1" for v in verbs])
        check("a page each", files == wanted, str(set(files) ^ set(wanted)))
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", "-b"] + [os.path.join(pages, f) for f in files],
                              capture_output=True, text=True)
        check("groff finds nothing to warn of", done.returncode == 0 and done.stderr == "", done.stderr[:500])
        overview = plain(os.path.join(pages, "corallite.1"))
        for verb in verbs[:4] + verbs[-1:]:  # man starts a dozen processes: some are enough
            page = plain(os.path.join(pages, f"corallite-{verb['name'].replace(' ', '-')}.1"))
            for text in [verb["summary"], verb["synopsis"], *verb["examples"],
                         *(o["help"] for o in verb["options"]), *(o["name"] for o in verb["options"])]:
                check(f"the page of {verb['name']} says '{text}'", " ".join(text.replace("`", "").split()) in page)
        for verb in verbs:
            check(f"corallite(1) names {verb['name']}", verb["summary"].replace("`", "") in overview)
        for daemon in ("pageserver", "safekeeper"):
            page = plain(os.path.join(pages, f"corallite-{daemon}.8"))
            help_text = subprocess.run([os.path.join(BIN, f"corallite-{daemon}"), "--help"], capture_output=True,
                                       text=True).stdout
            options = set(re.findall(r"^  (--[a-z-]+)", help_text, re.M))
            with open(os.path.join(ROOT, daemon, "main.c")) as f:
                known = {"--" + name for name in re.findall(r'^    \{"([a-z-]+)", ', f.read(), re.M)}
            check(f"{daemon} --help has each option", options == known and len(known) > 9, str(options ^ known))
            for option in options:
                check(f"the page of {daemon} has {option}", option in page)
            matches(f"{daemon}(8) refers to others", r"SEE ALSO.*corallite\(1\)", page)


@test
def make_install_puts_it_in_place(room):
    def make(*targets):
        # -o all: what lies there is not made anew, least of all without the flags that it was made with.
        done = subprocess.run(["make", "-s", "--no-print-directory", "-o", "all", "DEPS=no", f"B={os.path.relpath(BIN, ROOT)}",
                               "DESTDIR=" + room.path("root"), *targets], cwd=ROOT, capture_output=True, text=True)
        check("make " + " ".join(targets), done.returncode == 0, done.stderr[-300:])

    def files():
        return {os.path.relpath(os.path.join(folder, name), room.path("root", "usr", "local"))
                for folder, _, names in os.walk(room.path("root")) for name in names}

    make("install")
    wanted = {"bin/corallite", "bin/corallite-pageserver", "bin/corallite-safekeeper", "lib/corallite/corallite.so",
              "share/bash-completion/completions/corallite", "share/zsh/site-functions/_corallite",
              "share/fish/vendor_completions.d/corallite.fish", "share/man/man1/corallite.1",
              "share/man/man8/corallite-pageserver.8", "share/man/man8/corallite-safekeeper.8"}
    wanted |= {f"share/man/man1/corallite-{v['name'].replace(' ', '-')}.1" for v in room.json("help")}
    check("what is installed", files() == wanted, str(files() ^ wanted))
    with open(room.path("root", "usr/local/share/bash-completion/completions/corallite")) as f:
        check("the script that bash finds", f.read() == room.ok("completion", "bash"))
    make("uninstall")
    check("make uninstall takes all of it away", files() == set(), str(files()))
