"""An archive in a bucket (archive/s3_*): signatures, and the way out and back through a store that fails."""

import hashlib
import os
import random
import subprocess

from lib import s3_signer
from lib.cluster import BIN, check, popen
from lib.registry import test

PARTS = [b"a", b"Z", b"0", b" ", b"+", b"%", b"%2F", b"/", b"//", b"~", b"-", b"_", b".", b"..", b"\xc3\xa4", b"\xe6\x97\xa5", b"\xf0\x9f\x90\xa0",
         b"\xff", b"=", b"&", b"?", b"#", b";", b":", b",", b"'", b'"', b"\\", b"*", b"(", b")", b"$", b"@", b"!", b"\t", b"\n", b"\x01", b"\x7f"]


def odd(r, most=8):
    return b"".join(r.choice(PARTS) for _ in range(r.randrange(most)))


def word(r, letters, least, most):
    return "".join(r.choice(letters) for _ in range(r.randint(least, most)))


def request(r):
    small = "abcdefghijklmnopqrstuvwxyz0123456789"
    names = {word(r, small + "-", 1, 12).strip("-") or "x" for _ in range(r.randrange(6))} | {"host", "x-amz-date"}
    headers = [(name, word(r, small + " ABC/+=,;\t~", 0, 20)) for name in names]
    r.shuffle(headers)
    names = [n for n in {odd(r, 4) for _ in range(r.randrange(8))}]
    query = [(name, odd(r)) for name in names]
    if query and r.random() < 0.3:
        query.append((query[0][0], odd(r)))
    return {"key": word(r, small.upper(), 16, 20), "secret": word(r, small + "/+", 20, 40), "region": word(r, small + "-", 1, 20),
            "time": f"20{r.randrange(100):02}{r.randint(1, 12):02}{r.randint(1, 28):02}T{r.randrange(24):02}0000Z",
            "method": r.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]), "path": b"/" + odd(r, 12),
            "body": b"" if r.random() < 0.5 else r.randbytes(r.randrange(200)), "query": query, "headers": headers}


def line(q):
    def part(x):
        return (x if isinstance(x, bytes) else x.encode()).hex() or "-"
    words = [part(q[k]) for k in ("key", "secret", "region", "time", "method", "path", "body")]
    for pairs in (q["query"], q["headers"]):
        words += [str(len(pairs)), *(part(x) for pair in pairs for x in pair)]
    return " ".join(words) + "\n"


@test("5,000 random requests (odd keys, queries, headers, empty bodies) get the same target and Authorization, byte for byte, from "
      "archive/s3_sign.c and from a signer by Python's standard library", 60)
def s3_signatures(t):
    seed = int(os.environ.get("S3_SEED") or random.randrange(1 << 32))
    r = random.Random(seed)
    all_requests = [request(r) for _ in range(200000 if t.slow() else 5000)]
    process = popen([os.path.join(BIN, "tests", "s3-sign")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate("".join(map(line, all_requests)), timeout=50)
    check(process.returncode == 0, f"it ended with {process.returncode}")
    answers = out.splitlines()
    check(len(answers) == len(all_requests), f"{len(answers)} answers")
    for n, (q, answer) in enumerate(zip(all_requests, answers)):
        target, authorization = answer.split(" ")
        wanted = s3_signer.target(q["path"], q["query"])
        check(target == wanted, f"seed {seed}, request {n}: {target} instead of {wanted}")
        wanted = s3_signer.authorization(q["key"], q["secret"], q["region"], q["time"], q["method"], q["path"], q["query"], q["headers"],
                                         hashlib.sha256(q["body"]).hexdigest())
        check(bytes.fromhex(authorization).decode() == wanted, f"seed {seed}, request {n}: {q}")
    t.note(f"{len(all_requests)} requests, seed {seed}")
