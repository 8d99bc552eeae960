"""REST: billing figures as JSON and CSV over HTTP, described by OpenAPI, never in the way of `/metrics`.

Lives here: the calls (`calls`), their application (`application`), answers kept as bytes (`answer_cache`), the streamed
FOCUS file (`focus`), and `/openapi.json` and `/docs` (`documentation`). Begin reading at `calls`.
"""
