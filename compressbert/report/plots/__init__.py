"""The report's plots as inline SVG, one kind a file. Each returns None where its figures were not measured."""
