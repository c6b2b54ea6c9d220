"""AppLocker policy as values: read, judge, lint, compare, merge and write it. Standard library only, no I/O.

Read `model.py` (what a policy is) and `evaluate.py` (how it is judged) to understand the whole package.
"""
