# The two ways in which TLS is done. Nothing of it is for Python.
