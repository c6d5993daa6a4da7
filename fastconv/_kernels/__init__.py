"""The compiled drivers: typed loops over tiles, in parallel, with the GIL released."""
