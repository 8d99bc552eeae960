"""Answers to the web process's inquiries, which only the collector can put to fal: live usage and FOCUS reports.

Each is bounded in calls, time and disk, so that no question holds back the polls. May import: the rest of `polling`,
`fal`, `inquiry`. Begin reading at `live_usage`.
"""
