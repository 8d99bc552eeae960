"""HTTP clients for servers of the tests, which are all on this machine and speak without TLS.

A client of httpx reads the certificates of the whole world when it is made, which takes 25 ms of a processor: for the
tests, which make thousands, minutes.
"""

import ssl

import httpx

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody."""

HTTP = httpx.Client(verify=NO_TLS, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""For single calls, each with a connection of its own."""
