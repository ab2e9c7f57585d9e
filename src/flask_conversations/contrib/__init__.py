"""What stands beside the core and uses nothing but its public API."""
