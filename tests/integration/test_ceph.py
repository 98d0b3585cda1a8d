"""An archive in a real store with conditional writes (lib/ceph.py). By hand: `make ceph`; not part of `make test`."""

import collections
import os
import random
import subprocess
import threading
import time

from lib import ceph
from lib.cluster import BIN, PAGESERVER, check, until
from lib.registry import test
from test_archive import Archived, Writer, fill, moments, one_is_deposed, same
from test_archive_s3 import out_and_back, pruned_and_lost


def store(t, **more):
    t.needs(*ceph.PROGRAMS)
    return ceph.Ceph(os.path.join(t.dir, "ceph"), **more)


def suite(bucket):
    """The shared suite of tests/unit/archive (test_store.c) there."""
    env = dict(os.environ, CORALLITE_TEST_S3=f"s3://{bucket.bucket}?endpoint=http://127.0.0.1:{bucket.port}",
               CORALLITE_TEST_ACCESS_KEY_ID=ceph.KEY, CORALLITE_TEST_SECRET_ACCESS_KEY=ceph.SECRET, CORALLITE_TEST_REGION=ceph.REGION)
    done = subprocess.run([os.path.join(BIN, "tests", "unit-archive"), "--filter", "store/*"], env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=200)
    said = (done.stdout + done.stderr).strip()
    check(done.returncode == 0 and "Failing: 0" in said and "Tested: 13 " in said, said[-500:])


def probes_and_claims(bucket):
    asked = bucket.requests()
    return sum("/.corallite/conditional" in r for r in asked), sum("PUT" in r and "/.corallite/claims/" in r for r in asked)


@test("the promises of archive/store.h at Ceph's gateway, of whose conditional writes use is made; while it is killed again and again; and in "
      "a bucket with versions, where it has none, and names are claimed", 300)
def ceph_store(t):
    bucket = store(t)
    suite(bucket)
    probes, claims = probes_and_claims(bucket)
    check(probes > 0 and claims == 0, f"{probes} probes, {claims} claims: its conditional writes were not found")
    statuses = collections.Counter(r.split()[0] + " " + r.split()[-1] for r in bucket.requests())
    t.note(f"{dict(statuses)}")

    stop = threading.Event()
    tested = threading.Thread(target=lambda: ([suite(bucket) for _ in range(3)], stop.set()))
    tested.start()
    kills = 0
    while tested.is_alive() and not stop.wait(random.uniform(0.7, 2)):
        bucket.misbehave("killed")
        kills += 1
    tested.join()
    check(stop.is_set(), "the suite failed while the gateway was killed")
    bucket.misbehave()
    missing = [key for key in bucket.objects() if bucket.ask("HEAD", f"/{bucket.bucket}/{key}")[0] != 200]
    check(not missing, f"listed and not there: {missing[:3]}")
    t.note(f"the gateway was killed {kills} times")

    bucket.bucket = "versioned"
    bucket.ask("PUT", "/versioned")
    done = bucket.ask("PUT", "/versioned", [("versioning", "")],
                      b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>')
    check(done[0] == 200, f"versions: {done}")
    suite(bucket)
    probes, claims = probes_and_claims(bucket)
    check(claims > 0, "names are not claimed in a bucket with versions")


@test("an archive at Ceph's gateway, which is killed between commits: every disk is lost, and the cluster comes back with the same rows", 120)
def ceph_out_and_back(t):
    out_and_back(t, "", store(t), 10)


@test("archive prune at Ceph's gateway, with more than a page of objects of nobody, while it is killed: every moment, pin and branch is "
      "there, and comes back when every disk is lost", 240)
def ceph_pruned(t):
    pruned_and_lost(t, store(t), 1100)


@test("of two pageservers that archive one cluster at Ceph's gateway the older one notices that it was deposed, and has changed nothing", 90)
def ceph_deposed(t):
    one_is_deposed(t, store(t))


@test("while a writer commits, the gateway is killed, its OSD stands still and the pageserver is killed: no commit fails, the archive is "
      "sound, and every moment comes back when every disk is lost", 240)
def ceph_in_trouble(t):
    rng = random.Random(t.dir)
    bucket = store(t)
    with Archived(t.dir + "/c", bucket) as c:
        fill(c)
        writer = Writer(c, "w", rng, pause_s=0.02)
        kills = 25 if t.slow() else 10
        for n in range(kills):
            time.sleep(rng.uniform(0.1, 1.5))
            bucket.misbehave("killed")
            if n % 4 == 3:
                c.kill9(PAGESERVER)
                c.start(PAGESERVER)
            if n == 5:
                bucket.misbehave()
                bucket.stand_still(14)
        bucket.misbehave()
        time.sleep(1)
        writer.end()
        c.archived(60)
        c.corallite("archive", "check", c.url)
        before = moments(c)
        c.lose_everything()
    with c.come_back(t.dir + "/d") as c:
        c.start_everything()
        check(c.shell("SELECT count(*) FROM w").stdout.strip() == str(writer.rows), "rows are missing")
        same(before, c, "every disk lost")
    t.note(f"{kills} kills of the gateway, {writer.rows} commits, {len(before)} moments, {len(bucket.objects())} objects")


@test("a bucket's quota that is reached and a user who is suspended hold no commit up; the status says so, and archiving goes on by itself", 120)
def ceph_refuses(t):
    bucket = store(t)

    def admin(*args):
        bucket.once("radosgw-admin", "-n", "client.gw", *args)
    with Archived(t.dir + "/c", bucket) as c:
        def told(words):
            return lambda: words in c.corallite("status").stdout
        c.shell("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        c.archived()
        admin("quota", "set", "--quota-scope=bucket", "--bucket=" + bucket.bucket, "--max-size=1M")
        admin("quota", "enable", "--quota-scope=bucket", "--bucket=" + bucket.bucket)
        c.shell("INSERT INTO t VALUES (randomblob(3000000))")
        until(told("the store takes nothing more (QuotaExceeded)"), 20, "the status names the quota")
        admin("quota", "disable", "--quota-scope=bucket", "--bucket=" + bucket.bucket)
        c.archived()
        admin("user", "suspend", "--uid=corallite")
        c.shell("INSERT INTO t VALUES (2)")
        until(told("these credentials may not do that (UserSuspended)"), 20, "the status says that the user may not")
        admin("user", "enable", "--uid=corallite")
        c.archived()
        c.corallite("archive", "check", c.url)
