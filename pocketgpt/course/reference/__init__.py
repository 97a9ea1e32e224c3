"""Glossary, page of notation and cheat sheet, made from terms.toml, symbols.toml and sheet.toml."""
