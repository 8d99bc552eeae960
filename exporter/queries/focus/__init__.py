"""FOCUS reports and files: the question for one, its answer from the ledger or from fal, and files sent elsewhere.

Lives here: the question and its rules (`question`), a report as a stream (`report`), files from the ledger (`files`,
written in the process `file_process`), and their months in stores (`push`) and at cost services (`upload`,
`cost_services`), both done in the process `push_process`. May import: `focus`, `ledger`, `events`, `inquiry`, `worker`.
Begin reading at `question`.
"""
