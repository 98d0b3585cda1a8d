#!/usr/bin/python3
"""The tests of the command that are tables or need a terminal: more.py B [TEST...].

One cluster for all of them. Prints what failed, and `N passed, N failed, N skipped` at the end; TIMES=1
prints how long each took.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lib  # noqa: E402
import test_usage  # noqa: E402,F401
import test_json  # noqa: E402,F401
import test_terminal  # noqa: E402,F401
import test_completion  # noqa: E402,F401
import test_manual  # noqa: E402,F401
import test_sql  # noqa: E402,F401
import test_branches  # noqa: E402,F401
import test_check  # noqa: E402,F401  (stops daemons: last)








sys.exit(lib.main())
