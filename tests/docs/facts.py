"""What the pages say of the code, compared with the code, both ways.

Each check yields complaints, as `file:line: what`. A check that found nothing to compare complains as well,
so that none can silently stop applying.
"""

import glob
import os
import re
import subprocess

MODULES = ("common", "proto", "archive", "safekeeper", "pageserver", "compute-vfs", "cli")


class Source:
    """The repository and the built programs."""

    def __init__(self, root, build):
        self.root, self.build = root, build

    def read(self, name):
        with open(os.path.join(self.root, name)) as f:
            return f.read()

    def code(self, modules=MODULES, kinds=("c", "h")):
        """{file: text} of the products."""
        return {os.path.relpath(f, self.root): self.read(os.path.relpath(f, self.root))
                for m in modules for k in kinds for f in glob.glob(f"{self.root}/{m}/*.{k}")}

    def run(self, *args):
        return subprocess.run([os.path.join(self.build, args[0]), *args[1:]], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=10).stdout


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def section(text, heading):
    """The lines below a heading, up to the next of its level or above: [(line number, text)]."""
    level, inside, out = None, False, []
    for n, line in enumerate(text.split("\n"), 1):
        found = re.match(r"(#+) (.*)", line)
        if found and inside and len(found[1]) <= level:
            break
        if inside:
            out.append((n, line))
        if found and found[2] == heading:
            level, inside = len(found[1]), True
    return out


def rows(lines):
    """Cells of the tables in lines: [(line number, [cell])], without heads."""
    out = []
    for n, line in lines:
        if line.startswith("|") and not re.match(r"\|[-|]+\|$", line):
            out.append((n, [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]))
        elif line.startswith("|-") and out:
            out.pop()  # the head
    return out


def both_ways(page, kind, documented, real):
    """documented: {name: line}; real: names."""
    if not real or not documented:
        yield f"{page}:1: there is no {kind} to compare"
    for name, line in sorted(documented.items()):
        if name not in real:
            yield f"{page}:{line}: the code has no {kind} {name}"
    for name in sorted(set(real) - set(documented)):
        yield f"{page}:1: the {kind} {name} is not described"


# -- configuration.md ------------------------------------------------------------------------------

CONFIGURATION = "docs/configuration.md"


def daemon_options(source):
    for program in ("corallite-pageserver", "corallite-safekeeper"):
        table = rows(section(source.read(CONFIGURATION), program))
        documented = {re.search(r"--[a-z-]+", cells[0])[0]: (n, cells) for n, cells in table}
        text = source.run(program, "--help")
        yield from both_ways(CONFIGURATION, f"option of {program}", {k: v[0] for k, v in documented.items()},
                             set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)))
        for option, told in re.findall(r"^  (--[a-z-]+)(.*(?:\n {12,}.*)*)", text, re.M):
            default = re.search(r"\(default:? ([\w.:]+)|(\w+) \(default\)", told)
            default = default and (default[1] or default[2]).rstrip(".:")
            if default and option in documented and default not in documented[option][1][1]:
                yield (f"{CONFIGURATION}:{documented[option][0]}: --help of {program} says that {option} is "
                       f"{default} by default")


def parameters(source):
    table = rows(section(source.read(CONFIGURATION), "Parameters of the URI"))
    documented = {cells[0].strip("`"): (n, cells) for n, cells in table}
    code = source.read("compute-vfs/uri.c")
    real = set(re.findall(r'strcmp\(key, "(\w+)"\)', code))
    real |= set(re.findall(r'"(\w+)"', re.search(r"of_sqlite\[\] = \{(.*?)\}", code, re.S)[1]))
    yield from both_ways(CONFIGURATION, "parameter", {k: v[0] for k, v in documented.items()}, real)
    known = re.search(r"#define KNOWN(.*?)\n\n", code, re.S)[1]
    for name in re.findall(r"\w+", " ".join(re.findall(r'"([^"]*)"', known))):
        if name not in documented:
            yield f"{CONFIGURATION}:1: the parameter {name} is not described"
    limits = constants(source)
    defaults = {"server": re.search(r'CV_SERVER_DEFAULT\s+"(.*?)"', source.read("compute-vfs/uri.h"))[1],
                "cache_mb": re.search(r"cache_mb = (\d+)", code)[1],
                "commit_timeout": f"{limits['CO_COMMIT_TIMEOUT_MS'] // 1000} s"}
    for name, default in defaults.items():
        if name in documented and documented[name][1][1] != default:
            yield f"{CONFIGURATION}:{documented[name][0]}: {name} is {default} by default"


def environment(source):
    table = rows(section(source.read(CONFIGURATION), "Environment"))
    documented = {cells[0].strip("`"): n for n, cells in table}
    real = set()
    for text in source.code().values():
        text = without_comments(text)
        real |= set(re.findall(r'getenv\("(CORALLITE_\w+)"\)', text))
        real |= set(re.findall(r'\{"(CORALLITE_\w+)", "\w+"\}', text))
    yield from both_ways(CONFIGURATION, "variable", documented, real)


def local_cluster(source):
    """What `corallite up` passes to its daemons where that is not their default."""
    told = section(source.read(CONFIGURATION), "A local cluster")
    for name, words in (("CLUSTER_KEEP_LOG", "`--keep-log {}`"), ("CLUSTER_PORT_BASE", "`--port-base P` ({})")):
        value = re.search(rf'#define {name} +"?(\w+?)u?"?(?: |$)', source.read("cli/cluster.h"), re.M)[1]
        if not any(words.format(value) in line for _, line in told):
            yield f"{CONFIGURATION}:{told[0][0]}: a local cluster has {words.format(value)}, which is not described"


# -- limits.md -------------------------------------------------------------------------------------

LIMITS = "docs/limits.md"


def constants(source, more=()):
    """{name: number} of the headers, and of the files `more`."""
    text = "\n".join([*source.code(("proto", "compute-vfs"), ("h",)).values(), *map(source.read, more)])
    text = re.sub(r"\\\n", " ", without_comments(text))
    values = {}
    defined = re.findall(r"^#define (C[OV]_\w+|[A-Z_]+_MAX) +(.+)$", text, re.M)
    for name, expression in defined * 2:  # some stand before what they are made of
        expression = re.sub(r"(\d)(?:ull|u|U)\b", r"\1", expression.replace("(uint32_t)", ""))
        expression = re.sub(r"C[OV]_\w+", lambda m: str(values.get(m[0], m[0])), expression)
        if re.fullmatch(r"[\d\s()*/+<-]+", expression):
            values[name] = eval(expression, {"__builtins__": {}})  # digits and operators only
    return values


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": None}


def limits(source):
    compared = 0
    for n, (what, value, names, *_) in rows(section(source.read(LIMITS), "Numbers")):
        known = constants(source, re.findall(r"\((\S+\.[ch])\)", names))
        numbers = [int(x.replace(",", "")) for x in re.findall(r"\d[\d,]*", value)]
        unit = (re.search(r"[A-Za-z]+$", value) or [""])[0]
        for number, name in zip(numbers, re.findall(r"`(\w+)`", names)):
            if name not in known:
                yield f"{LIMITS}:{n}: the code has no {name}"
                continue
            if name.startswith("CV_CACHE_MB"):
                real = number
                number = known[name]
            elif name.endswith(("_MS", "_US")):
                real = number * (1000 if name.endswith("_MS") else 1000000)
            else:
                real = number * (UNITS.get(unit) or 1)
            compared += 1
            if real != known[name] and number != known[name]:
                yield f"{LIMITS}:{n}: {name} is {known[name]}, the page says {value}"
    if compared < 12:
        yield f"{LIMITS}:1: only {compared} numbers could be compared"


# -- errors.md -------------------------------------------------------------------------------------

ERRORS = "docs/errors.md"


def classes(source):
    real = {name: (number, cls.lower(), text) for name, number, cls, text in
            re.findall(r'X\((\w+),\s*(\d+),\s*(\w+),\s*"(.*?)"\)', source.read("common/error.h"))}
    documented = {}
    for n, cells in rows(section(source.read(ERRORS), "Classes")):
        documented[cells[0]] = n
        if cells[0] in real and tuple(cells[1:4]) != real[cells[0]]:
            yield f"{ERRORS}:{n}: {cells[0]} is {' | '.join(real[cells[0]])}"
    yield from both_ways(ERRORS, "class", documented, real)


def sqlite_codes(source):
    """The result codes that the VFS's source names (as sqlite3.h knows them), against the section."""
    with open("/usr/include/sqlite3.h") as f:
        header = f.read()
    codes = set(re.findall(r"^#define (SQLITE_[A-Z]+)\s+\d+\s+/\*", header.split("end-of-error-codes")[0], re.M))
    codes |= set(re.findall(r"^#define (SQLITE_\w+)\s+\(SQLITE_[A-Z]+ *\| *\(\d+<<8\)\)", header, re.M))
    codes -= {"SQLITE_OK"}
    real = set()
    for text in source.code(("compute-vfs",)).values():
        real |= set(re.findall(r"\bSQLITE_[A-Z_]+\b", without_comments(text))) & codes
    text = section(source.read(ERRORS), "SQLite's result codes")
    documented = {}
    for n, line in text:
        if line.startswith("| SQLITE_"):
            documented.update({c: n for c in re.findall(r"SQLITE_[A-Z_]+", line.split("|")[1])})
        elif not line.startswith(("|", "These", "are", "Stock")):
            documented.update({c: n for c in re.findall(r"SQLITE_[A-Z_]+", line)})
    yield from both_ways(ERRORS, "result code", documented, real)


# Sentences that the page need not tell one by one: a row `no memory ...`, `cannot open ...` is for them.
OF_ONE_KIND = re.compile(r"^no (memory|thread|descriptor)\b|^cannot (open|make|write|read|lock|list)\b")

# Where the sentences of a start are, all of which are told; the other daemons' files as the page likes.
OF_A_START = ("common/identity_file.c", "pageserver/store_lmdb.c", "safekeeper/start_file.c")


def _literals(text):
    """The sentences of co_fail, co_fail_errno and cv_report, with ... for what varies."""
    for m in re.finditer(r'\b(?:co_fail|co_fail_errno|cv_report)\s*\(([^;"]*)((?:"(?:[^"\\]|\\.)*"\s*'
                         r'(?:PRI\w+|[A-Z]{4,})?\s*)+)', text):
        joined = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', m[2])).replace('\\"', '"')
        if "CV_NO_SENTENCE" not in m[1]:
            yield re.sub(r"(%0?16(?![a-z])|%[-+#0-9.*]*(?:hh|h|ll|l|z|j)?[a-zA-Z])+", "...", joined)


LETTERS = 9  # less is no sentence: "... in ...: ..." fits everything


def _letters(sentence):
    return len(re.findall("[a-z]", sentence))


def _matches(documented, literal):
    """Do the documented words stand in the sentence, in their order?"""
    parts = [p.strip() for p in documented.split("...") if p.strip()]
    return re.search(".*".join(map(re.escape, parts)), literal) is not None


def sentences(source):
    everywhere, of_programs = [], {}
    for name, text in source.code(kinds=("c",)).items():
        found = list(_literals(without_comments(text)))
        everywhere += found
        if name.startswith("compute-vfs/") or name in OF_A_START:
            of_programs.update({s: name for s in found if not OF_ONE_KIND.match(s) and _letters(s) >= LETTERS})
    # Beyond the calls: sentences that are put together elsewhere.
    everything = "\n".join(" ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', t))
                           for t in source.code(kinds=("c",)).values())
    documented = []
    text = source.read(ERRORS)
    for n, cells in rows(section(text, "Sentences of a program") + section(text, "Sentences of the daemons")):
        sentence = cells[1] if len(cells) == 3 else cells[0]
        documented += [(n, s) for s in re.findall(r"`([^`]+)`", sentence)]
    if len(documented) < 50 or len(of_programs) < 50:
        yield f"{ERRORS}:1: only {len(documented)} sentences here and {len(of_programs)} in the code"
    for n, sentence in documented:
        if _letters(sentence) < LETTERS and not OF_ONE_KIND.match(sentence):
            yield f"{ERRORS}:{n}: '{sentence}' could stand for anything"
        if not any(_matches(sentence, s) for s in everywhere) and \
                not all(p.strip() in everything for p in sentence.split("...")):
            yield f"{ERRORS}:{n}: no program says '{sentence}'"
    for sentence, name in of_programs.items():
        if not any(_matches(d, sentence) for _, d in documented):
            yield f"{ERRORS}:1: the sentence of {name} is not described: '{sentence}'"


# -- PROTOCOL.md -----------------------------------------------------------------------------------

PROTOCOL = "docs/PROTOCOL.md"


def frame_types(source):
    """Each type with its number: a row `| TYPE | no. | ...`, or `TYPE (type no.)` in the text."""
    lines = source.read(PROTOCOL).split("\n")
    documented = {}
    for n, line in enumerate(lines, 1):
        found = re.findall(r"\b([A-Z][A-Z_]+) \((?:type )?(\d+)[,)]", line)
        found += re.findall(r"^\| ([A-Z][A-Z_]+) \| (\d+) \|", line)
        for name, number in found:
            if name in documented:
                yield f"{PROTOCOL}:{n}: the frame type {name} is listed twice"
            documented[name] = (n, int(number))
    enum = re.search(r"enum frame_type \{(.*?)\};", without_comments(source.read("proto/frame.h")), re.S)[1]
    real = {name: int(number) for name, number in re.findall(r"\bFRAME_(\w+) = (\d+)", enum)}
    for name, (n, number) in documented.items():
        if name in real and real[name] != number:
            yield f"{PROTOCOL}:{n}: {name} is {real[name]}"
    yield from both_ways(PROTOCOL, "frame type", {name: n for name, (n, _) in documented.items()}, real)


def _bytes(text):
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+) (KiB|MiB|GiB)", text))


def frame_bounds(source):
    """The table of bounds: largest body and message, and the types, of each sort."""
    code, values = source.read("proto/frame.c"), constants(source)
    sorts = {name: tuple(values[c] for c in re.findall(r"CO_FRAME_\w+_BYTES", text)) for name, text in
             re.findall(r"#define (\w+)\(n\)(.*?\})", code, re.S)}
    real = dict.fromkeys(sorts.values(), frozenset())
    for name, sort in re.findall(r"\[FRAME_(\w+)\] = (\w+)\(", code):
        real[sorts[sort]] |= {name}
    compared = set()
    for n, (sort, body, message, types) in rows(section(source.read(PROTOCOL), "Bounds")):
        bounds = _bytes(body), _bytes(message)
        compared.add(bounds)
        if bounds not in real:
            yield f"{PROTOCOL}:{n}: the code has no frames of {body} with messages of {message}"
        elif sort != "small" and set(re.findall(r"\b[A-Z][A-Z_]+\b", types)) != real[bounds]:
            yield f"{PROTOCOL}:{n}: these are {', '.join(sorted(real[bounds]))}"
    if len(real) < 5 or compared != set(real):
        yield f"{PROTOCOL}:1: the code has {len(real)} sorts of frames, the page {len(compared)}"


# -- every page ------------------------------------------------------------------------------------

def _pages(source):
    return ["README.md"] + sorted(os.path.relpath(f, source.root) for f in glob.glob(source.root + "/docs/*.md"))


def _anchor(heading):
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda m: m[1] or "", heading.lower())
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def links(source):
    """Links within the repository lead somewhere, to a heading that is there."""
    n_links = 0
    for page in _pages(source):
        for n, line in enumerate(source.read(page).split("\n"), 1):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                n_links += 1
                path, _, anchor = target.partition("#")
                file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
                if not os.path.exists(os.path.join(source.root, file)):
                    yield f"{page}:{n}: there is no {target}"
                elif anchor and file.endswith(".md"):
                    heads = re.findall(r"^#+ (.*)$", source.read(file), re.M)
                    if anchor not in map(_anchor, heads):
                        yield f"{page}:{n}: {file} has no heading '{anchor}'"
    if n_links < 50:
        yield f"README.md:1: only {n_links} links were found"


def verbs(source):
    """`corallite VERB --option` in running text names verbs and options that there are."""
    seen, help_of = 0, {}
    names = re.findall(r'\.name = "([^"]+)"', source.read("cli/verbs.c"))
    for page in _pages(source):
        for n, line in enumerate(re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), source.read(page),
                                        flags=re.S | re.M).split("\n"), 1):
            for span in re.findall(r"`corallite ([a-z][^`]*)`", line):
                words = span.split()
                verb = next((v for v in (" ".join(words[:2]), words[0]) if v in names), None)
                if not verb and words[0] not in {v.split()[0] for v in names}:
                    yield f"{page}:{n}: there is no 'corallite {words[0]}'"
                if not verb:
                    continue
                seen += 1
                if verb not in help_of:
                    help_of[verb] = source.run("corallite", "help", *verb.split())
                for option in re.findall(r"(?<!\S)--[a-z-]+", span):
                    if option not in help_of[verb] and option not in ("--help", "--man"):
                        yield f"{page}:{n}: 'corallite {verb}' has no option {option}"
    if seen < 20:
        yield f"README.md:1: only {seen} verbs were found in running text"


def tests_named(source):
    """The tests that guarantees.md names are there."""
    names = set(re.findall(r"^def (\w+)\(t\)", "\n".join(
        source.read(os.path.relpath(f, source.root)) for f in glob.glob(source.root + "/tests/integration/test_*.py")),
        re.M))
    page, seen = "docs/guarantees.md", 0
    for n, line in enumerate(source.read(page).split("\n"), 1):
        for name in re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", line):
            if name in ("commit_timeout", "journal_mode", "locking_mode", "mmap_size", "wal_checkpoint"):
                continue
            seen += 1
            if name not in names:
                yield f"{page}:{n}: there is no test {name}"
    if seen < 8:
        yield f"{page}:1: only {seen} tests are named"


CHECKS = (("options of the daemons", daemon_options), ("a local cluster", local_cluster), ("parameters of the URI", parameters),
          ("environment variables", environment), ("limits", limits), ("error classes", classes),
          ("SQLite's result codes", sqlite_codes), ("sentences", sentences), ("types of frames", frame_types),
          ("bounds of frames", frame_bounds), ("links", links),
          ("verbs in running text", verbs), ("tests behind the guarantees", tests_named))


def check_all(root, build):
    source = Source(root, build)
    for name, check in CHECKS:
        yield name, list(check(source))


# A page, what is changed in it, and the check that has to notice: both a lack and something too much.
MISTAKES = (("docs/configuration.md", r"^\| `--map-size.*\n", "", daemon_options),
            ("docs/configuration.md", r"`--take-over`", "`--take-all`", daemon_options),
            ("docs/configuration.md", r"\| info \|", "| warn |", daemon_options),
            ("docs/configuration.md", r"--keep-log 256M", "--keep-log 64M", local_cluster),
            ("docs/configuration.md", r"^\| `staleness`.*\n", "", parameters),
            ("docs/configuration.md", r"^\| `create`", "| `creat`", parameters),
            ("docs/configuration.md", r"\| 64 \|", "| 65 |", parameters),
            ("docs/configuration.md", r"^\| `CORALLITE_LOG`.*\n", "", environment),
            ("docs/limits.md", r"\| 100,000 \|", "| 1,000 |", limits),
            ("docs/limits.md", r"\| 10,000 \|", "| 1,000 |", limits),
            ("docs/errors.md", r"^\| CLOCK .*\n", "", classes),
            ("docs/errors.md", r"\| 21 \| retry", "| 22 | retry", classes),
            ("docs/errors.md", r"^\| SQLITE_READONLY .*\n", "", sqlite_codes),
            ("docs/errors.md", r"^\| SQLITE_FULL ", "| SQLITE_CORRUPT ", sqlite_codes),
            ("docs/errors.md", r"^\| `nolock=1 .*\n", "", sentences),
            ("docs/errors.md", r"`at= is empty`", "`at= is void`", sentences),
            ("docs/errors.md", r"`at= is empty`", "`... is ...`", sentences),
            ("docs/PROTOCOL.md", r"^\| PIN_LIST .*\n", "", frame_types),
            ("docs/PROTOCOL.md", r"^\| LOGGED \| 89", "| LOGGED | 98", frame_types),
            ("docs/PROTOCOL.md", r"^\| RESTORE ", "| RESTORED ", frame_types),
            ("docs/PROTOCOL.md", r"PONG \(5\)", "PONG", frame_types),
            ("docs/PROTOCOL.md", r", PINS \|$", " |", frame_bounds),
            ("docs/PROTOCOL.md", r"^\| bulk \| 17", "| bulk | 18", frame_bounds),
            ("docs/PROTOCOL.md", r"^\| history .*\n", "", frame_bounds),
            ("README.md", r"\(docs/backup.md\)", "(docs/backups.md)", links),
            ("README.md", r"`corallite down`", "`corallite dwon`", verbs),
            ("docs/guarantees.md", r"`two_processes_write_at_once`", "`two_thieves_write_at_once`", tests_named))


class Altered(Source):
    def __init__(self, root, build, page, pattern, replacement):
        super().__init__(root, build)
        self.page, self.pattern, self.replacement = page, pattern, replacement

    def read(self, name):
        text = super().read(name)
        return re.sub(self.pattern, self.replacement, text, flags=re.M) if name == self.page else text


def canary(root, build):
    """What is wrong with the checks: a mistake that they do not notice."""
    for page, pattern, replacement, check in MISTAKES:
        if not any(True for _ in check(Altered(root, build, page, pattern, replacement))):
            yield f"{check.__name__} does not notice that in {page} '{pattern}' became '{replacement}'"
