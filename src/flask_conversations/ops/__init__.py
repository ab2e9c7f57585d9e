"""The operator's tools behind `flask conversations`: `doctor`, `verify` and `bench`."""
