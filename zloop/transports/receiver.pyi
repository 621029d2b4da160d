# Protocols that take received bytes where they are. Nothing of it is for Python.
