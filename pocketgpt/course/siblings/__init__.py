"""Siblings: tiny trained models that differ in one part, so that chapters can compare that part and put yours in it."""
