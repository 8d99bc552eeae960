"""Drives the left half: what is polled when, and what is published after it."""
