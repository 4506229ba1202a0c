"""Running a sweep on Ray."""
