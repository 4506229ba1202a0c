"""Pages about results: what they say (`content`) and their HTML (`render`)."""
