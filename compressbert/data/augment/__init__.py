"""New texts out of those of the data, for methods that learn from a teacher: nobody knows their labels."""
