"""What a person types: magics and the command line. No logic of their own: all is derived from the verbs' signatures.

lines.py: a line → words. reading.py: one word → its value. arguments.py: the verbs' table, a signature → what may be
given, parsed. documenting.py: the same → help. completing.py: the same → Tab. showing.py, progress.py: what is shown
while a magic runs and after it. live.py: what answers with a widget. magics.py, cells.py, cli.py: the front ends.
"""
