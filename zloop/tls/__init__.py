"""TLS over a transport."""
