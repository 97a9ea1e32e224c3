"""Results for people and programs: gradebook, pages, JUnit XML, JSON; and what they are worth."""
