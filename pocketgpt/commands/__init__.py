"""What the subcommands of `pocketgpt` do."""
