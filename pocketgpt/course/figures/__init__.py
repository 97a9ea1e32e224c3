"""The pictures of the course. Every function takes plain tensors, so that it draws yours."""
