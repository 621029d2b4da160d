"""What ties a descriptor to a protocol: streams, pipes, datagrams, and the acceptors that make them."""
