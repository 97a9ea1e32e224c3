"""The exercise of chapter 00: softmax."""
