"""Sluice beside what people use instead, under the same load, on one machine, in one run: `make bench`."""
