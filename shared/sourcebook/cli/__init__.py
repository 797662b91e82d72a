"""The command line: every command of the hub, progress bars for people, `--json` and exit codes for scripts."""
