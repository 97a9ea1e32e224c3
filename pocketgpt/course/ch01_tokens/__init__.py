"""Chapter 01: count pairs, merge a pair, encode a word, decode, embed."""
