"""How fast this machine trains and writes, each way beside what one would use instead."""
