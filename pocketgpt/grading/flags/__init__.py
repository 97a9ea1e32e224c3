"""Lines of a submission that a person should look at, found without running anything."""
