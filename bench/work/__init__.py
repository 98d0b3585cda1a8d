"""The workloads, a file a group: WORK, a list of Workload, and GOALS, a list of Goal. CURVES is of growth.py, for the chart."""

from . import bulk, cold, commits, growth, mix, pages, reads

GROUPS = (commits, bulk, reads, cold, mix, growth, pages)
CURVES = growth.CURVES
