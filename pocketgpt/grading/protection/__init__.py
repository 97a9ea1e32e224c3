"""Running what is not trusted: what it sees, what it may use, and the end of everything that it started."""
