"""Search over stacks of passes for the bundles that nothing beats in quality, latency and size."""
