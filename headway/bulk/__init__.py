"""Run a bundle over files of any size: shards, batches by tokens, results as parquet."""
