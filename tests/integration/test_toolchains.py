"""The examples in languages whose toolchains are large (`make examples-all` installs them)."""

import os
import subprocess

from lib.cluster import Skip, check
from lib.registry import test
from test_examples import connect, example, source

GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
JDBC = "/usr/share/java/sqlite-jdbc.jar"


@test("examples: Go (mattn/go-sqlite3 of Debian)", 300)
def example_go(t):
    t.needs("go", "cc")
    if not os.path.isdir("/usr/share/gocode/src/github.com/mattn/go-sqlite3"):
        raise Skip("golang-github-mattn-go-sqlite3-dev is not installed")
    with t.cluster() as c:
        program = os.path.join(c.dir, "build-go")
        env = dict(GO, GOCACHE=os.path.join(t.dir, "build-gocache"), GOFLAGS="")
        done = subprocess.run(["go", "build", "-tags", "libsqlite3", "-o", program,
                               source("go/example.go")], capture_output=True, text=True,
                              env=dict(os.environ, **env))
        check(done.returncode == 0, done.stderr[-600:])
        example(t, c, [program], "example-go")
        connect(t, c, "go", ["sh", "-c", f"go build -tags libsqlite3 -o {program} FILE && {program}"],
                ".go", "example-go", seconds=200, **env)


@test("examples: Java (sqlite-jdbc of Debian)", 120)
def example_java(t):
    t.needs("java")
    if not os.path.exists(JDBC):
        raise Skip("libxerial-sqlite-jdbc-java is not installed")
    with t.cluster() as c:
        example(t, c, ["java", "-cp", JDBC, source("java/Example.java")], "example-java")
        connect(t, c, "java", ["java", "-cp", JDBC, "FILE"], ".java", "example-java")
