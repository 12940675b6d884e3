"""The command line: data on stdout, talk on stderr, one exit code for each kind of end (see `main`)."""
