"""One plain function per command, each in the module of its name. The command line parses, calls one, and prints."""
