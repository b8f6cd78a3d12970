"""From weights to the files that runtimes load."""
