"""The subcommands of `pocketgpt`, one a file: signature, help text and work."""
