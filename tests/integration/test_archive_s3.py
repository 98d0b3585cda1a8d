"""An archive in a bucket (archive/s3_*): signatures, and the way out and back through a store that fails."""

import hashlib
import http.client
import json
import os
import random
import ssl
import subprocess

from lib import s3_signer
from lib.cluster import BIN, NODES, PAGESERVER, check, popen, run
from lib.registry import test
from test_archive import Archived, moments, one_is_deposed, pins_of, same, sum_of
from test_prune import Pruned
from test_truncate import write

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


# -- a cluster whose archive is in a bucket --------------------------------------------------------


class Bucket:
    """The store of lib/s3_server.py, as a process; the credentials are in our environment."""

    def __init__(self, **options):
        script = os.path.join(os.path.dirname(s3_signer.__file__), "s3_server.py")
        self.process = popen(["/usr/bin/python3", script, *(f"--{k}={v}" for k, v in options.items())],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        os.environ.update(AWS_ACCESS_KEY_ID="AKTEST", AWS_SECRET_ACCESS_KEY="se/cr+et", AWS_SESSION_TOKEN="to+ken/=",
                          AWS_REGION="eu-test-1", no_proxy="127.0.0.1")
        self.tls = "tls" in options
        self.url = f"s3://attic/a/place?endpoint=http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None):
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=ssl._create_unverified_context())
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body)
        return connection.getresponse().read().decode()

    def misbehave(self, *faults):
        self.ask("POST", "/_control", json.dumps({"faults": [{"on": on, "times": n, "kind": kind} for on, n, kind in faults]}))

    def requests(self):
        return self.ask("GET", "/_log").splitlines()

    def put(self, key, body):
        self.ask("PUT", "/_objects/" + key, body)

    def objects(self):
        return json.loads(self.ask("GET", "/_objects"))


def out_and_back(t, name, bucket, rounds):
    """Writes while the store fails, loses every disk, comes back from the bucket: the same rows."""
    kinds = ("503 SlowDown", "lost", "500 InternalError", "reset", "cut")
    with Archived(os.path.join(t.dir, name + "old"), bucket) as c:
        c.shell("CREATE TABLE t(a INTEGER PRIMARY KEY, b);")
        for n in range(rounds):
            bucket.misbehave((".", 3, kinds[n % len(kinds)]))
            c.shell("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<200) "
                    "INSERT INTO t(b) SELECT hex(randomblob(100)) FROM n;")
        bucket.misbehave()
        c.archived(60)
        said = c.corallite("archive", "check", bucket.url).stdout
        check("shop" in said, f"archive check: {said}")
        wanted = sum_of(c, "shop")
        # Nothing secret is said, nor stands where other users of the machine can read it.
        for node in (*NODES, PAGESERVER):
            with open(f"/proc/{c.pid(node)}/cmdline", "rb") as f:
                said = f.read().decode(errors="replace")
            with open(c.log(node), errors="replace") as f:
                said += f.read()
            check("se/cr+et" not in said and "to+ken" not in said, f"{node} tells a secret")
        c.lose_everything()

    bucket.misbehave((".", 4, "503 SlowDown"))
    with c.come_back(os.path.join(t.dir, name + "new")) as back:
        back.start_everything()
        check(sum_of(back, "shop") == wanted, "what came back is not what was there")
        back.shell("INSERT INTO t(b) VALUES('after');")
        back.archived(60)
    asked = bucket.requests()
    t.note(f"{len(asked)} requests, {sum(line.startswith('PUT') for line in asked)} PUT")


def certificate(t):
    """A certificate of our own for 127.0.0.1, with its key, in one file."""
    pem = os.path.join(t.dir, "store.pem")
    done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pem,
                           "-out", pem + ".crt", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    check(done.returncode == 0, f"openssl: {done.stderr}")
    with open(pem, "a") as f, open(pem + ".crt") as crt:
        f.write(crt.read())
    return pem


@test("an archive by TLS in a bucket whose store stumbles (500, 503, connections cut before, within and after the deed): every disk is lost, "
      "and the cluster comes back with the same rows; no secret is logged or on a command line (--slow: longer, and also at a store "
      "that overlooks If-None-Match, with lists of three names a page)", 120)
def archive_in_a_bucket(t):
    pem = certificate(t)
    bucket = Bucket(tls=pem)
    done = run([os.path.join(BIN, "corallite-safekeeper"), "--restore", bucket.url, "--dir", os.path.join(t.dir, "none"), "--node", "1"],
               "", 60)
    check(done.returncode == 1 and "AWS_CA_BUNDLE" in done.stderr, f"a certificate that nobody knows: {done.stderr}")
    os.environ["AWS_CA_BUNDLE"] = pem
    out_and_back(t, "", bucket, 15 if t.slow() else 5)
    if t.slow():
        out_and_back(t, "simple", Bucket(conditions="ignore", page=3), 15)


class PrunedInBucket(Pruned):
    def log_bytes(self):
        return sum(size for key, size in self.archive.objects().items() if f"/{self.id}/log/" in key)


def pruned_and_lost(t, bucket, strays):
    """Prunes while the store fails, with so many objects of nobody; loses every disk, and comes back."""
    with PrunedInBucket(t.dir + "/old", bucket) as c:
        c.shell("CREATE TABLE first(x); INSERT INTO first VALUES ('a');")
        c.corallite("pin", "create", "shop", "early")
        write(c, 12)
        c.corallite("branch", "create", "shop/late", "--at", "pin:early")
        c.shell("INSERT INTO first VALUES ('late')", db="shop/late")
        write(c, 8)
        c.settled()
        before, pins, was = moments(c, 4), pins_of(c, "shop"), c.log_bytes()
        nobodys = f"a/place/{c.id}/log/{'ab' * 16}/"
        for n in range(strays):
            bucket.put(f"{nobodys}{0x1000 + 8 * n:016x}-{0x1008 + 8 * n:016x}-{'0' * 32}", b"nobody's")
        would = c.prune("--dry-run")
        check(would["log_bytes"] > 4 << 20 and would["stray_objects"] == strays, f"a dry run: {would}")
        check(c.log_bytes() == was + 8 * strays, "a dry run took something away")
        bucket.misbehave(("^DELETE", 2, "503 SlowDown"), ("^DELETE", 2, "lost"), ("^GET", 2, "cut"), ("^PUT", 1, "500 InternalError"))
        did = c.prune("--yes")
        check({**would, "dry_run": False, "manifests": 0} == {**did, "manifests": 0}, f"said {would}, did {did}")
        bucket.misbehave()
        check(not [key for key in bucket.objects() if key.startswith(nobodys)], "nobody's objects are still there")
        check(c.log_bytes() == was - did["log_bytes"], "the log has not become smaller by that much")
        same(before, c, "after pruning", 4)
        c.corallite("archive", "check", bucket.url, timeout=120)
        c.lose_everything()
    with c.come_back(t.dir + "/new") as back:
        back.start_everything()
        same(before, back, "every disk lost", 4)
        check(pins_of(back, "shop") == pins, "the pins are others")
        back.corallite("check", "--deep", timeout=120)
    t.note(f"{was >> 10} KiB of log, of which {did['log_bytes'] >> 10} KiB went with {did['log_objects']} objects; "
           f"{sum(line.startswith('DELETE') for line in bucket.requests())} DELETE")


@test("archive prune in a bucket whose store stumbles and lists three names a page: the log below a snapshot goes, and an object of nobody; "
      "every moment, pin and branch is there, and comes back when every disk is lost", 180)
def prune_in_a_bucket(t):
    pruned_and_lost(t, Bucket(page=3), 1)


@test("of two pageservers that archive one cluster in a bucket the older one notices that it was deposed, stops, and has changed nothing; at a "
      "store with conditional writes, and at one that overlooks If-None-Match", 120)
def deposed_in_a_bucket(t):
    one_is_deposed(t, Bucket())
    t.dir += "/simple"
    one_is_deposed(t, Bucket(conditions="ignore"))
