"""Frozen data that every layer passes on: stdlib and numpy only.

plan.py: what is decided before tracing. artifact.py: what lies on disk. results.py: what a run, a comparison and a
validation gave. findings.py: what was found on the way.
"""
