"""Serve bundles over HTTP: batches by tokens, the requests that clients already send, limits, and a life without dropped requests."""
