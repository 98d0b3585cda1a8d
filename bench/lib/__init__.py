"""What the driver of the benchmarks is made of."""
