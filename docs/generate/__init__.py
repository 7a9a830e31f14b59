"""Writes every part of the documentation that can be derived from code, tests or measurements.

A page marks such a part with two comments, each on a line of its own::

    <!-- generated: NAME -->
    <!-- end -->

`python -m docs.generate` fills all of them; `tests/docs/test_generated.py` fails where a page and its source disagree.
"""
