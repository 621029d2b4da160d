# Declarations of the C++ that knows Python, one file for each header; no logic.
