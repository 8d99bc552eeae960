"""Deliveries: jobs that send figures elsewhere at an interval; each only where its settings are given.

Lives here: FOCUS files to stores and cost services (`focus_push`), hourly samples by remote write (`remote_write`), and
metrics by OTLP (`otlp`). A delivery that fails is shown, and is tried again at the next interval; it never holds up a
poll. May import: what `polling` may. Begin reading at `focus_push`.
"""
