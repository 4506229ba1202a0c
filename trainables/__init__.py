"""Methods, tasks, data, population training, and the tables that they write."""
