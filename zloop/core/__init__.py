"""A loop without sockets: handles, turns, readers and writers, timers, errors, life cycle."""
