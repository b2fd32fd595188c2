"""The studio: what the command line does, in a browser, with the picture appearing meanwhile."""
