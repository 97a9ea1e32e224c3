"""Two printable pages that sum up the course: what is on them (content), how they are drawn, and their files."""
