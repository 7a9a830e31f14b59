"""What tests share: small random models of every family, canonical graphs and tokenizers."""
