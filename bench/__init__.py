"""The benchmarks: `python -m bench` measures Taskward on this machine, `python -m bench.peers` its peers beside it."""
