"""REST: the billing figures as JSON and CSV over HTTP, described by OpenAPI, beside `/metrics` and never in its way."""
