"""One run, from a config file to a record."""
