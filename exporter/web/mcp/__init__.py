"""The Model Context Protocol: questions of agents, over HTTP on its own port or over standard input and output.

Lives here: the tools (`tool`, `tools`, `request_tools`, `focus_tools` with its `focus_process`), the server with
resources and prompt (`server`), and its HTTP endpoint (`endpoint`). The library takes most of a second to import, so a
process that serves scrapes imports this package late, and in a thread. Begin reading at `tools`.
"""
