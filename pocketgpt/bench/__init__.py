"""Benchmarks: how fast this machine trains and generates, next to the usual alternatives."""
