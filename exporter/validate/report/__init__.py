"""Gather the stored figures of bundles for a report: verdicts, latency, passes, bundles beside each other, operators, machines."""
