"""A Ceph of one node as a store for archives: a monitor, an OSD that keeps everything in memory and a gateway with the S3 interface, below
one directory, on loopback, without systemd. It has what the store of s3_server.py is told to have, and more: Debian 12's 16.2 refuses a
put under a name that is taken (412), overlooks that condition at the end of an upload in parts, and in a bucket with versions.

The one fault that it can be told of is that its gateway is killed."""

import hashlib
import http.client
import os
import re
import signal
import subprocess
import time
from datetime import datetime, timezone
from xml.sax.saxutils import unescape

from . import s3_signer
from .cluster import check, free_ports, popen, until

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
BUCKET, KEY, SECRET, REGION = "attic", "AKTEST", "se/cr+et", "default"
CEPH_ID, OSD_ID = "c0a11173-0000-4000-8000-000000000001", "c0a11173-0000-4000-8000-000000000002"

CONF = """[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
mon_initial_members = a
mon_data = {dir}/mon
osd_data = {dir}/osd
rgw_data = {dir}/rgw
run_dir = {dir}
crash_dir = {dir}
log_file = {dir}/$name.log
admin_socket =
pid_file =
keyring = {dir}/keyring
ms_bind_ipv6 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
rgw_enable_apis = s3
rgw_frontends = beast endpoint=127.0.0.1:{gateway}
debug_rgw = 1
"""


class Ceph:
    def __init__(self, directory, bucket=BUCKET):
        self.dir, self.bucket = directory, bucket
        self.conf = os.path.join(directory, "ceph.conf")
        mon, self.port = free_ports(2)
        for name in ("", "mon", "osd", "rgw"):
            os.mkdir(os.path.join(directory, name))
        with open(self.conf, "w") as f:
            f.write(CONF.format(fsid=CEPH_ID, mon=mon, gateway=self.port, dir=directory))
        self.once("monmaptool", "--create", "--fsid", CEPH_ID, "--addv", "a", f"[v2:127.0.0.1:{mon}]", directory + "/monmap")
        keys = directory + "/keyring"
        for name in ("mon.", "osd.0", "client.admin", "client.gw"):
            self.once("ceph-authtool", keys, *([] if os.path.exists(keys) else ["--create-keyring"]), "--gen-key", "-n", name,
                      "--cap", "mon", "allow *", "--cap", "osd", "allow *")
        self.once("ceph-mon", "--mkfs", "-i", "a", "--monmap", directory + "/monmap", "--keyring", keys)
        self.daemon("ceph-mon", "-i", "a")
        self.once("ceph", "osd", "new", OSD_ID)
        self.once("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", OSD_ID)
        self.osd = self.daemon("ceph-osd", "-i", "0")
        until(lambda: "1 up" in self.once("ceph", "osd", "stat"), 40, "Ceph's OSD is up")
        self.once("radosgw-admin", "-n", "client.gw", "user", "create", "--uid=corallite", "--display-name=corallite",
                  "--access-key=" + KEY, "--secret-key=" + SECRET)
        self.start_gateway()
        check(self.ask("PUT", "/" + bucket)[0] == 200, "the bucket cannot be made")
        os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION=REGION, no_proxy="127.0.0.1")
        os.environ.pop("AWS_SESSION_TOKEN", None)
        self.url = f"s3://{bucket}/a/place?endpoint=http://127.0.0.1:{self.port}"

    # -- daemons --------------------------------------------------------------------------------

    def once(self, program, *args):
        done = subprocess.run([program, "-c", self.conf, *args] if program != "monmaptool" else [program, *args],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, f"{program} {' '.join(args)}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def daemon(self, program, *args):
        with open(os.path.join(self.dir, program + ".out"), "ab") as out:
            return popen([program, "-c", self.conf, *args, "-f"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def start_gateway(self, wait=True):
        self.gateway = self.daemon("radosgw", "-n", "client.gw")
        if wait:
            until(self.answers, 60, "the gateway answers")

    def answers(self):
        check(self.gateway.poll() is None, "the gateway has ended")
        try:
            return self.ask("GET", "/")[0] == 200
        except OSError:
            return False

    def misbehave(self, *faults):
        """With any fault the gateway is killed and comes back by itself after a moment; without, it is waited for."""
        if faults:
            self.gateway.kill()
            self.gateway.wait(10)
            self.start_gateway(wait=False)
        else:
            until(self.answers, 60, "the gateway answers")

    def stand_still(self, seconds):
        """The OSD does nothing for a while, so that the gateway does not answer."""
        self.osd.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.osd.send_signal(signal.SIGCONT)

    # -- what is there --------------------------------------------------------------------------

    def ask(self, method, path, query=(), body=b"", headers=()):
        """One request, signed by s3_signer.py: status and body."""
        when = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        host, digest = f"127.0.0.1:{self.port}", hashlib.sha256(body).hexdigest()
        headers = [("host", host), ("x-amz-content-sha256", digest), ("x-amz-date", when), *headers]
        query = [(name.encode(), value.encode()) for name, value in query]
        authorization = s3_signer.authorization(KEY, SECRET, REGION, when, method, path.encode(), query, headers, digest)
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request(method, s3_signer.target(path.encode(), query), body, {**dict(headers), "authorization": authorization})
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
        connection.close()
        return status, body.decode()

    def put(self, key, body):
        status, said = self.ask("PUT", f"/{self.bucket}/{key}", body=body)
        check(status == 200, f"PUT {key}: {status} {said}")

    def objects(self):
        """{key: bytes} of what is there."""
        found, token = {}, None
        while True:
            query = [("list-type", "2")] + ([("continuation-token", token)] if token else [])
            status, said = self.ask("GET", "/" + self.bucket, query)
            check(status == 200, f"a list: {status} {said}")
            found.update((unescape(key), int(size)) for key, size in re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", said))
            more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", said)
            if not more:
                return found
            token = unescape(more[1])

    def requests(self):
        """What the gateway was asked so far and has answered: "METHOD /path STATUS"."""
        with open(os.path.join(self.dir, "client.gw.log"), errors="replace") as f:
            return [f"{m[1]} {m[2]}" for m in re.finditer(r'"([A-Z]+ /\S*) HTTP/1.1" (\d+)', f.read())]
