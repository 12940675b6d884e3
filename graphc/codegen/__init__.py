"""Code generators: from a Program to sources, one folder a target."""
