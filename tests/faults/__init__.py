"""What breaks, on purpose: brokers, links, servers and callers."""
