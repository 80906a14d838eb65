"""Hides a slow package of this name from the processes of tests.

They run as where it is not installed.

Each process that imports nbformat imports jsonschema, and that this package, where it is installed. It then builds a
parser of internationalized addresses, which takes two seconds of CPU time; jsonschema works without it, and nothing
here asks whether a string is such an address. It comes with jupyter_server, as a requirement of jupyter_events.
"""

raise ImportError("left out of the tests: its import takes two seconds")
