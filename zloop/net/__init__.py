"""Connections, servers, endpoints, names and the sock_* calls: what runs once per connection or per server."""
