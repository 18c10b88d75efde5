"""The command line: one verb a function, shared options, values of options."""
