"""Records as text and as deterministic HTML. Sees records alone; imports neither torch nor IPython.

blocks.py: what a shown record is made of. wording.py: numbers, sizes, paths and names as people read them.
text.py, html.py: blocks as a terminal and as a notebook show them. verdict.py, axes.py, exported.py, comparison.py,
planning.py, values.py, answers.py, stages.py, failures.py: records as blocks. bundles.py: a record's mime bundle.
formatters.py: those bundles in an IPython shell. progress.py: what is shown while a verb works.
"""
