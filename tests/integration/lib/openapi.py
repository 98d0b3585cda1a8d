"""docs/openapi.json as a judge of real answers, and an HTTP client that has it judge each of them.

Only as much of JSON Schema as that file uses; a keyword that it does not know is an error.
"""

import http.client
import json
import os
import re
from urllib.parse import quote

from .cluster import PAGESERVER, ROOT, check

ANNOTATIONS = {"description", "example", "format", "default", "maxLength"}
KNOWN = ANNOTATIONS | {"type", "properties", "required", "additionalProperties", "items", "enum",
                       "pattern", "nullable", "minimum", "maximum", "$ref"}
TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}


class Description:
    def __init__(self):
        with open(os.path.join(ROOT, "docs", "openapi.json")) as f:
            self.text = f.read()
        self.doc = json.loads(self.text)

    def look_up(self, node):
        while "$ref" in node:
            target = self.doc
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def faults(self, value, schema, at=""):
        """Where a value is not what the schema says."""
        schema = self.look_up(schema)
        unknown = set(schema) - KNOWN
        if unknown:
            yield f"{at}: the judge does not know {unknown}"
        if value is None:
            if not schema.get("nullable"):
                yield f"{at} is null"
            return
        kind = TYPES[schema["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield f"{at} is {value!r} and no {schema['type']}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at} is {value!r}, none of {schema['enum']}"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at} is {value!r}, not {schema['pattern']}"
        if value.__class__ is int and not (schema.get("minimum", value) <= value
                                           <= schema.get("maximum", value)):
            yield f"{at} is {value}, out of bounds"
        if schema.get("format") == "date-time" and \
                not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value):
            yield f"{at} is {value!r}, no time"
        if kind is list:
            for i, one in enumerate(value):
                yield from self.faults(one, schema["items"], f"{at}[{i}]")
        if kind is dict and "properties" in schema:
            for name in schema.get("required", ()):
                if name not in value:
                    yield f"{at}.{name} is missing"
            for name, one in value.items():
                if name in schema["properties"]:
                    yield from self.faults(one, schema["properties"][name], f"{at}.{name}")
                elif schema.get("additionalProperties") is False:
                    yield f"{at}.{name} is not described"

    def operation(self, method, path):
        for pattern, item in self.doc["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
                return item.get(method.lower())
        return None

    def judge(self, method, path, answer):
        """An answer to a request is one that is described."""
        what = f"{method} {path} -> {answer.status}"
        operation = self.operation("GET" if method == "HEAD" else method, path)
        if operation:
            check(str(answer.status) in operation["responses"], f"{what} is not described")
            response = self.look_up(operation["responses"][str(answer.status)])
        else:
            check(answer.status in (400, 404, 405), f"{what} is not described")
            response = self.doc["components"]["responses"][f"E{answer.status}"]
        (kind, content), = response["content"].items()
        check(answer.headers["Content-Type"] == kind, f"{what} is {answer.headers['Content-Type']}")
        for header in response.get("headers", {}):
            check(header in answer.headers, f"{what} lacks {header}")
        if kind == "application/json" and method != "HEAD":
            faults = list(self.faults(json.loads(answer.body), content["schema"], "answer"))
            check(not faults, f"{what}: {'; '.join(faults[:3])}: {answer.body[:300]}")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error"]["code"]

    @property
    def sentence(self):
        return self.json["error"]["sentence"]


class Api:
    """Requests to a cluster's /v1, each answer judged."""

    def __init__(self, cluster):
        self.port = cluster.http[PAGESERVER]
        self.description = Description()
        self.seen = set()

    def raw(self, method, path, body=None, headers=(), timeout=40):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, body, dict(headers))
        return connection.getresponse()

    def ask(self, method, path, fields=None, expect=200, headers=None, body=None, **arguments):
        """fields: the body, as JSON. The answer, which has the status that is expected."""
        query = "&".join(f"{k}={quote(str(v), safe='')}" for k, v in arguments.items())
        headers = dict(headers or {})
        if fields is not None:
            body = json.dumps(fields)
            headers.setdefault("Content-Type", "application/json")
        answer = Answer(self.raw(method, f"/v1{path}" + (f"?{query}" if query else ""), body,
                                 headers))
        self.description.judge(method, f"/v1{path}", answer)
        check(answer.status == expect,
              f"{method} {path} {fields or ''}: {answer.status}, not {expect}: {answer.body[:400]}")
        self.seen.add((method, answer.status, re.sub(r"(databases|branches|pins)/[^/]+", r"\1/*",
                                                     path)))
        return answer

    def get(self, path, expect=200, **arguments):
        answer = self.ask("GET", path, expect=expect, **arguments)
        return answer.json if expect == 200 else answer

    def post(self, path, fields, expect=201):
        answer = self.ask("POST", path, fields, expect)
        return answer.json if expect < 300 else answer

    def patch(self, path, fields, expect=200):
        answer = self.ask("PATCH", path, fields, expect)
        return answer.json if expect < 300 else answer

    def delete(self, path, expect=200):
        answer = self.ask("DELETE", path, expect=expect)
        return answer.json if expect == 200 else answer
