#!/usr/bin/python3
"""A store with the S3 interface, as far as an archive uses it, that can be told to misbehave.

    s3_server.py [--page=N] [--conditions=yes|ignore|501|400] [--conditions_of_parts=...] [--like=ceph] [--tls=FILE]

Prints its port, serves 127.0.0.1 until its standard input ends, keeps everything in memory. One bucket, `attic`, in the
path or in the host's name (attic.localhost). Every request is checked by s3_signer.py; key `AKTEST`, secret `se/cr+et`,
session token (wanted only if it comes) `to+ken/=`. POST /_control takes JSON, without a signature:

    {"faults": [{"on": REGEX of "METHOD /path?query", "times": N, "kind": KIND}], "page": N, "conditions": "yes|ignore|501|400"}

Like Ceph's gateway (16.2, see ceph.py): lists come in chunks; the condition is overlooked at the end of an upload, and an upload that was ended
is ended again.

KIND: a status with a code ("503 SlowDown"); `reset` (the connection is cut before an answer), `lost` (the request takes place, its
answer is cut), `cut` (half of the answer's body comes), `mangle` (one byte of the body is wrong), `200 CODE` (an error in a good
answer), `stale` (a list that misses what came last), `slow` (an answer after 30 s). GET /_log: the requests so far, a line each.
GET /_objects: {key: bytes} of what is there; PUT /_objects/KEY puts one there, without a signature.
"""

import hashlib
import http.server
import json
import os
import re
import ssl
import sys
import threading
import time
from datetime import datetime, timezone
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape as xml

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import s3_signer  # noqa: E402

BUCKET, KEY, SECRET, TOKEN, REGION = "attic", "AKTEST", "se/cr+et", "to+ken/=", "eu-test-1"


class Refused(Exception):
    def __init__(self, status, code, message="", headers=()):
        super().__init__(code)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Store:
    def __init__(self):
        self.lock = threading.RLock()
        self.objects = {}  # key: (bytes, etag, {meta})
        self.order = []
        self.uploads, self.begun, self.ended = {}, 0, set()
        self.faults = []
        self.log = []
        self.page = 1000
        self.conditions = "yes"
        self.conditions_of_parts = "yes"
        self.like = None

    def fault(self, line):
        with self.lock:
            for fault in self.faults:
                if fault.get("times", 1) > 0 and re.search(fault["on"], line):
                    fault["times"] = fault.get("times", 1) - 1
                    return fault["kind"]
        return None


STORE = Store()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "s3test", ""
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    # -- answers --------------------------------------------------------------------------------

    def answer(self, status, body=b"", headers=(), length=None, chunked=False):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:]) if part) + b"0\r\n\r\n"
        elif status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            if self.kind == "mangle" and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
            if self.kind == "cut":
                body = body[:len(body) // 2]
            if self.kind != "lost":
                self.wfile.write(body)
        if self.kind in ("cut", "lost"):
            self.close_connection = True

    def refuse(self, why):
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{why.code}</Code><Message>{xml(why.message)}</Message>'
                f"<Region>{REGION if why.status == 301 else ''}</Region><RequestId>1</RequestId></Error>").encode()
        self.kind = None
        self.answer(why.status, body, why.headers)

    def do(self):
        self.kind = None
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/_control":
            with STORE.lock:
                for name, value in json.loads(body).items():
                    setattr(STORE, name, value)
            return self.answer(200)
        if self.path == "/_log":
            return self.answer(200, "\n".join(STORE.log).encode())
        if self.path.startswith("/_objects"):
            with STORE.lock:
                if self.command == "PUT":
                    self.store(self.path[len("/_objects/"):], body, hashlib.md5(body).hexdigest(), {})
                return self.answer(200, json.dumps({key: len(found[0]) for key, found in STORE.objects.items()}).encode())
        line = f"{self.command} {self.path}"
        with STORE.lock:
            STORE.log.append(line)
        self.kind = STORE.fault(line)
        if self.kind == "reset":
            self.close_connection = True
            return None
        if self.kind == "slow":
            time.sleep(30)
            self.close_connection = True
            return None
        try:
            if self.kind and re.match(r"[345]\d\d ", self.kind):
                raise Refused(int(self.kind[:3]), self.kind[4:], "as it was told to")
            self.check(body)
            if self.kind == "lost":
                return self.lose(body)
            self.serve(body)
        except Refused as why:
            self.refuse(why)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

    def lose(self, body):
        """Carried out, and nobody hears of it."""
        out, self.wfile = self.wfile, open(os.devnull, "wb")
        try:
            self.serve(body)
        except Refused:
            pass
        self.wfile.close()
        self.wfile = out
        self.close_connection = True

    # -- who asks -------------------------------------------------------------------------------

    def check(self, body):
        path, _, query = self.path.partition("?")
        self.raw_path = unquote_to_bytes(path)
        self.query = [(unquote_to_bytes(n), unquote_to_bytes(v)) for n, _, v in
                      (part.partition("=") for part in query.split("&") if part)]
        # What was sent is what was signed, not something that means the same.
        if s3_signer.target(self.raw_path, self.query) != self.path:
            raise Refused(400, "NotCanonical", self.path)
        found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/]+)/s3/aws4_request,"
                             r"SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})", self.headers.get("Authorization") or "")
        if not found:
            raise Refused(403, "AccessDenied", "no signature")
        if found[1] != KEY:
            raise Refused(403, "InvalidAccessKeyId")
        if found[3] != REGION:
            raise Refused(400, "AuthorizationHeaderMalformed", f"expecting '{REGION}'",
                          [("x-amz-bucket-region", REGION)])
        when = self.headers["x-amz-date"]
        then = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        if abs((datetime.now(timezone.utc) - then).total_seconds()) > 900:
            raise Refused(403, "RequestTimeTooSkewed", "the difference is too large")
        names = found[4].split(";")
        must = {"host", *(n.lower() for n in self.headers if n.lower().startswith("x-amz-"))}
        if self.headers.get("Range"):
            must.add("range")
        if not must <= set(names):
            raise Refused(403, "AccessDenied", f"not signed: {must - set(names)}")
        digest = hashlib.sha256(body).hexdigest()
        wanted = s3_signer.authorization(KEY, SECRET, REGION, when, self.command, self.raw_path, self.query,
                                         [(n, self.headers.get(n) or "") for n in names], digest)
        if self.headers["x-amz-content-sha256"] != digest:
            raise Refused(400, "XAmzContentSHA256Mismatch")
        if self.headers["Authorization"] != wanted:
            raise Refused(403, "SignatureDoesNotMatch")
        if self.headers.get("x-amz-security-token", TOKEN) != TOKEN:
            raise Refused(400, "InvalidToken")

    # -- what is asked --------------------------------------------------------------------------

    def serve(self, body):
        key = self.raw_path.decode("utf-8")[1:]
        host = self.headers["Host"].split(":")[0]
        bucket = host.split(".")[0] if host.count(".") == 1 else None
        if bucket is None:
            bucket, _, key = key.partition("/")
        if bucket == "elsewhere":
            raise Refused(301, "PermanentRedirect", "", [("x-amz-bucket-region", REGION)])
        if bucket == "locked":
            raise Refused(403, "AccessDenied")
        if bucket != BUCKET:
            raise Refused(404, "NoSuchBucket")
        query = {n.decode(): v.decode() for n, v in self.query}
        if not key:
            return self.list(query)
        name = {"PUT": "part" if "uploadId" in query else "put", "GET": "get", "HEAD": "get",
                "DELETE": "abort" if "uploadId" in query else "delete",
                "POST": "begin" if "uploads" in query else "complete"}[self.command]
        return getattr(self, name)(key, query, body)

    def meta(self):
        return {n: v for n, v in self.headers.items() if n.lower().startswith("x-amz-meta-")}

    def condition(self, key, how):
        if self.headers.get("If-None-Match") is None or how == "ignore":
            return
        if how != "yes":
            raise Refused(int(how), "NotImplemented", "A header you provided implies functionality that is not implemented")
        if key in STORE.objects:
            raise Refused(412, "PreconditionFailed")

    def store(self, key, data, etag, meta):
        if key not in STORE.objects:
            STORE.order.append(key)
        STORE.objects[key] = (data, etag, meta)

    def put(self, key, query, body):
        with STORE.lock:
            self.condition(key, STORE.conditions)
            etag = hashlib.md5(body).hexdigest()
            self.store(key, body, etag, self.meta())
        if self.kind == "mangle":
            etag = "0" * 32
        self.answer(200, b"", [("ETag", f'"{etag}"')])

    def get(self, key, query, body):
        if key not in STORE.objects:
            raise Refused(404, "NoSuchKey")
        data, etag, meta = STORE.objects[key]
        headers = [("ETag", f'"{etag}"'), *meta.items()]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if self.command == "HEAD" or not found or self.kind == "whole":
            return self.answer(200, data, headers)
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        if first >= len(data):
            raise Refused(416, "InvalidRange")
        headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
        return self.answer(206, data[first:last + 1], headers)

    def delete(self, key, query, body):
        with STORE.lock:
            if STORE.objects.pop(key, None):
                STORE.order.remove(key)
        self.answer(204)

    def list(self, query):
        with STORE.lock:
            keys = sorted(STORE.objects, key=lambda k: k.encode())
            if self.kind == "stale" and STORE.order:
                keys.remove(STORE.order[-1])
            after = query.get("continuation-token", "")[6:] or query.get("start-after", "")
            keys = [k for k in keys if k.startswith(query.get("prefix", "")) and (not after or k.encode() > after.encode())]
            size = {k: len(STORE.objects[k][0]) for k in keys}
        page = min(STORE.page, int(query.get("max-keys", 1000)))
        more = len(keys) > page
        keys = keys[:page]
        body = ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>{BUCKET}</Name><IsTruncated>{str(more).lower()}</IsTruncated>")
        for key in keys:
            body += (f"<Contents><Key>{xml(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                     f'<ETag>&quot;x&quot;</ETag><Size>{size[key]}</Size><Owner><ID>o</ID></Owner></Contents>')
        if more:
            body += f"<NextContinuationToken>token:{xml(keys[-1])}</NextContinuationToken>"
        self.answer(200, (body + "</ListBucketResult>").encode(), chunked=STORE.like == "ceph")

    # -- in parts -------------------------------------------------------------------------------

    def begin(self, key, query, body):
        with STORE.lock:
            STORE.begun += 1
            name = f"up+{STORE.begun}/="
            STORE.uploads[name] = {"key": key, "parts": {}, "meta": self.meta()}
        self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode())

    def upload(self, key, query):
        found = STORE.uploads.get(query["uploadId"])
        if not found or found["key"] != key:
            raise Refused(404, "NoSuchUpload")
        return found

    def part(self, key, query, body):
        with STORE.lock:
            self.upload(key, query)["parts"][int(query["partNumber"])] = body
        etag = hashlib.md5(body).hexdigest() if self.kind != "mangle" else "0" * 32
        self.answer(200, b"", [("ETag", f'"{etag}"')])

    def complete(self, key, query, body):
        if self.kind and self.kind.startswith("200 "):
            return self.answer(200, f"<Error><Code>{self.kind[4:]}</Code></Error>".encode())
        with STORE.lock:
            if STORE.like == "ceph" and query["uploadId"] in STORE.ended:
                return self.answer(200, b"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>")
            upload = self.upload(key, query)
            self.condition(key, "ignore" if STORE.like == "ceph" else STORE.conditions_of_parts)
            told = re.findall(r"<Part><PartNumber>(\d+)</PartNumber><ETag>\"(\w+)\"</ETag></Part>", body.decode())
            have = {n: hashlib.md5(data).hexdigest() for n, data in upload["parts"].items()}
            if {int(n): etag for n, etag in told} != have or [int(n) for n, _ in told] != sorted(have):
                raise Refused(400, "InvalidPart")
            if any(len(upload["parts"][n]) < 5 << 20 for n in sorted(have)[:-1]):
                raise Refused(400, "EntityTooSmall")
            data = b"".join(upload["parts"][n] for n in sorted(have))
            etag = hashlib.md5(b"".join(bytes.fromhex(have[n]) for n in sorted(have))).hexdigest() + f"-{len(have)}"
            self.store(key, data, etag, upload["meta"])
            del STORE.uploads[query["uploadId"]]
            STORE.ended.add(query["uploadId"])
        self.answer(200, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode())

    def abort(self, key, query, body):
        with STORE.lock:
            self.upload(key, query)
            del STORE.uploads[query["uploadId"]]
        self.answer(204)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


def main():
    for word in sys.argv[1:]:
        name, _, value = word.lstrip("-").partition("=")
        setattr(STORE, name, int(value) if value.isdigit() and name == "page" else value)
    server = Server(("127.0.0.1", 0), Handler)
    if getattr(STORE, "tls", None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(STORE.tls)
        # The handshake is made by the connection's own thread, at its first read.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    while os.read(0, 100):
        pass


if __name__ == "__main__":
    main()
