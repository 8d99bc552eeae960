"""HTTP: the exposition, the pages, REST, MCP and the probes.

Lives here: the server (`server`), the ASGI application (`application`), the short path of a scrape (`metrics`), who may
ask (`auth`), and the packages `rest`, `mcp` and `pages`. Serves what has been published and what the ledger's reader
answers; never reaches fal. May import: `queries`, `publication`, `metrics`. Begin reading at `application`.
"""
