"""Questions about spend and their answers, the same for REST, MCP and the agent skill.

Lives here: parameters and how they are read (`parameters`), the answers (`usage`, `drivers`, `machines`, `invoices`,
`forecasts`, `requests`, and `live` of fal itself), what they lack (`coverage`), their documents (`models`,
`usage_documents`, written by `exact_json`), and FOCUS reports (`focus`). An answer is made from one snapshot of the
ledger, or from the latest publication. May import: `ledger`, `publication`, `forecasting`; never `web` or `fal`. Begin
reading at `usage`.
"""
