"""The commands for operators, run as `flask conversations ...` against real databases and servers."""
