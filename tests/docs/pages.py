"""A page of documentation as what the runner does with it: fenced blocks, and words to the runner.

A word to the runner is an HTML comment `<!-- docs-test: ... -->` before a block (tests/docs/README.md
lists them). Whoever reads the page as text sees it; whoever reads it rendered does not.
"""

import re
from dataclasses import dataclass, field

RUN = ("sh", "sql", "python", "php", "ruby", "perl", "js", "c")  # executed
OUTPUT = ("text", "json")  # what the block before it prints, when it follows directly
SHOWN = ("ini", "yaml", "toml", "go", "diff", "html")  # shown only, or run where it is said
# What a line of a command block begins with: such a block must be fenced, or nobody runs it.
COMMANDS = ("corallite", "corallite-safekeeper", "corallite-pageserver", "sqlite3", "make", "curl", "docker",
            "apt-get", "python3", "php", "ruby", "node", "npm", "eval", "export", "systemctl")


@dataclass
class Block:
    line: int  # of the first line within it
    language: str
    text: str
    words: list = field(default_factory=list)  # of the comments before it
    output: "Block" = None

    def word(self, name):
        """What follows a word to the runner, "" when nothing does; None without the word."""
        for word in self.words:
            if word == name or word.startswith(name + ":"):
                return word[len(name) + 1:].strip()
        return None


@dataclass
class Page:
    name: str
    blocks: list
    words: list  # that stand before no block: for the page
    complaints: list  # (line, text)


KNOWN = ("not run", "time passes", "database", "no cluster")


def _word(comment):
    found = re.fullmatch(r"<!--\s*(?:docs-test:\s*|(?=not run:))(.*?)\s*-->", comment, re.S)
    return " ".join(found[1].split()) if found else None


def parse(name, text):
    """Fences stand at the beginning of a line, and are closed by three backticks alone."""
    page = Page(name, [], [], [])
    lines = text.split("\n")
    words, i, previous = [], 0, None
    while i < len(lines):
        line = lines[i]
        if line.startswith("<!--"):
            comment, begin = line, i + 1
            while "-->" not in lines[i] and i + 1 < len(lines):
                i += 1
                comment += "\n" + lines[i]
            word = _word(comment.strip())
            if word and word.split(":")[0] not in KNOWN:
                page.complaints.append((begin, f"the runner knows no word '{word}'; it knows "
                                               + ", ".join(KNOWN)))
            if word == "no cluster":
                page.words.append(word)
            elif word:
                words.append(word)
                previous = None
        elif line.startswith("```"):
            language, begin = line[3:].strip(), i + 2
            i += 1
            body = []
            while i < len(lines) and lines[i].rstrip() != "```":
                body.append(lines[i])
                i += 1
            if i == len(lines):
                page.complaints.append((begin - 1, "the block is never closed"))
            block = Block(begin, language, "\n".join(body) + "\n", words)
            words = []
            if language not in RUN + OUTPUT + SHOWN:
                page.complaints.append((begin - 1, f"a block says what it is: ```sh, ```text ...; there is "
                                                   f"'{language}'"))
            if language in OUTPUT and previous and not block.words:
                previous.output = block
            else:
                page.blocks.append(block)
            previous = block if language in RUN else None
        elif line.startswith("    ") and line.split()[0:1] and line.split()[0] in COMMANDS \
                and (i == 0 or not lines[i - 1].strip() or lines[i - 1].startswith("    ")):
            if words and words[0].startswith("not run"):
                page.blocks.append(Block(i + 1, "sh", line + "\n", words))
                words = []
                while i + 1 < len(lines) and lines[i + 1].startswith("    "):
                    i += 1
            else:
                page.complaints.append((i + 1, "a command in an indented block, which nothing runs: fence it "
                                               "with ```sh"))
        elif line.strip():
            previous = None
            if words:
                page.complaints.append((i + 1, f"'{words[0]}' for the runner stands before no block"))
                words = []
        i += 1
    return page
