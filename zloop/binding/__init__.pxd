# Declarations of the C++ that knows Python, one file per header; no logic lives here.
