"""The Model Context Protocol: what agents ask, over HTTP on a port of its own or over standard input and output.

The library takes most of a second to import, so whoever serves scrapes imports this room late, and in a thread.
"""
