"""Benchmarks: small programs that share one harness. ``README.md`` says how to run and read them."""
