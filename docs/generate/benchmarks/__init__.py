"""Tables of the benchmark pages, one module per page, from the JSON files in `benchmarks/results/`."""
