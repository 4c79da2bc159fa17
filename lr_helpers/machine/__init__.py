"""What the machine gives: how many threads torch takes beside others."""
