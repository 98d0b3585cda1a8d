"""The workloads, a file a group: WORK, a list of Workload, and GOALS, a list of Goal."""

from . import bulk, cold, commits, growth, mix, pages, reads

GROUPS = (commits, bulk, reads, cold, mix, growth, pages)
