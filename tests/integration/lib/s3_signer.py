"""AWS Signature Version 4, for S3, by the standard library alone: what archive/s3_sign.c is compared with. Written from
Amazon's description of the algorithm, and on purpose in another way than the C code."""

import hashlib
import hmac
from urllib.parse import quote


def escape(data, safe=""):
    return quote(data, safe="-._~" + safe)


def target(path, query):
    """Path and query as they are sent. path, names and values: bytes."""
    pairs = sorted((escape(name), escape(value)) for name, value in query)
    return escape(path, "/") + ("?" if pairs else "") + "&".join(f"{name}={value}" for name, value in pairs)


def canonical_request(method, path, query, headers, payload_sha256):
    rows = sorted((name.lower(), " ".join(value.replace("\t", " ").split(" ")).strip()) for name, value in headers)
    rows = [(name, " ".join(part for part in value.split(" ") if part)) for name, value in rows]
    full = target(path, query)
    where, _, what = full.partition("?")
    return "\n".join([method, where, what, *(f"{name}:{value}" for name, value in rows), "",
                      ";".join(name for name, _ in rows), payload_sha256])


def signature(secret, region, when, request):
    scope = f"{when[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(request.encode("utf-8")).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (when[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), scope


def authorization(key_id, secret, region, when, method, path, query, headers, payload_sha256):
    request = canonical_request(method, path, query, headers, payload_sha256)
    value, scope = signature(secret, region, when, request)
    names = ";".join(sorted(name.lower() for name, _ in headers))
    return f"AWS4-HMAC-SHA256 Credential={key_id}/{scope},SignedHeaders={names},Signature={value}"
