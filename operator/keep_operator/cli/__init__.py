"""The commands of `keep-operator`, beside the long-running processes."""
